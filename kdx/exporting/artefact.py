"""An artefact is run in its own runtime on real images, and compared with the compact network."""

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdx.data import Views
from kdx.exporting.formats import Call
from kdx.exporting.latency import interleaved, median_p95
from kdx.launch.memory import at_once
from kdx.models.certificate import CHANGED, see, summed
from kdx.models.modes import eval_mode
from kdx.protocols import Task
from kdx.tasks import primary_metric
from kdx.util.errors import CertificateError, reason

IMAGES = 1024  # on which it is compared, or all if that is cheap
CHEAP = 20  # seconds of both networks, on all images
BATCH = 32
BATCHES = (1, 32)  # whose latency is measured


def unchanged(images: Tensor) -> Tensor:
    """Return the images."""
    return images


@torch.no_grad()
def check(
    open_runtime: Callable[..., Call],
    path: Path,
    network: nn.Module,
    views: Views,
    task: Task,
    *,
    prepare: Callable[[Tensor], Tensor] = unchanged,
    batch: int | None = None,
    tolerance: float = 1e-4,
    lost: float | None = None,
    images: int | None = None,
    threads: int = 1,
    batches: Sequence[int] = BATCHES,
) -> dict[str, Any]:
    """Open the artefact at `path` as `open_runtime(path, threads=threads)`, and compare it.

    Returns what a row of certificate.json says of the comparison: "images", "batches" (the sizes in
    which it took them: 1, 7 and 32, if its batch is free), "max_abs_error", "max_rel_error" (of the
    largest logit, as in `kdx.models.certificate`), "tolerance", "predictions",
    "predictions_changed", "metrics" of "compact" and "export", and "latency", by batch, beside that
    of `network` in PyTorch.

    `network` is the compact network, with which it is compared in eval mode on the CPU. `prepare`
    makes its input of the images of `views`. `batch` is the artefact's, if fixed. `images` is how
    many are compared, spread over the views: by default 1,024, or all if that takes seconds.

    Raises CertificateError if it does not run, if the largest error is above `tolerance`, or more
    than a share of 10 times that of the predictions changed. With `lost` neither counts: the first
    metric may be lower by so much, and "tolerance" is None.
    """
    with eval_mode(network.cpu()), torch_threads(threads):
        with _must_run(path, batch):
            call = fitted(open_runtime(path, threads=threads), batch)
        size = min(BATCH, at_once(views.shape), len(views))
        first = prepare(_batch(views, size).images)
        started = time.perf_counter()
        network(first)
        with _must_run(path, batch):
            call(first.numpy())
        seconds = (time.perf_counter() - started) / size * len(views)
        count = min(len(views), images or (len(views) if seconds < CHEAP else IMAGES))
        meters, seen = {n: task.meter(torch.device("cpu")) for n in ("compact", "export")}, []
        keys = iter([(0, i * len(views) // count) for i in range(count)])
        for part in (sizes := list(_sizes(count, size))):
            made = views.__getitems__(list(islice(keys, part)))
            given = prepare(made.images)
            expected = network(given).float()
            with _must_run(path, batch):
                found = torch.from_numpy(call(given.numpy()))
            if found.shape != expected.shape:
                shapes = f"{list(found.shape)}, the compact student's {list(expected.shape)}"
                raise CertificateError(f"{path.name}: its outputs are {shapes}")
            seen.append(see(expected, found.float(), task.decide))
            for meter, outputs in zip(meters.values(), (expected, found.float()), strict=True):
                meter.update(outputs, made.targets)
        errors, changed, predictions = summed(seen, tolerance)
        row = {
            "images": count,
            "batches": [batch] if batch else sorted(set(sizes)),
            "max_abs_error": errors.max_abs_error,
            "max_rel_error": errors.max_rel_error,
            "tolerance": tolerance if lost is None else None,
            "predictions": predictions,
            "predictions_changed": changed,
            "metrics": {name: dict(meter.compute()) for name, meter in meters.items()},
        }
        if problem := _problem(row) if lost is None else _loss(row, primary_metric(task), lost):
            raise CertificateError(f"{path.name} differs from the compact student: {problem}")
        image = prepare(_batch(views, 1).images)
        timed = latency(call, network, image, threads, [batch] if batch else batches)
        return row | {"latency": timed}


@contextmanager
def _must_run(path: Path, batch: int | None) -> Iterator[None]:
    """Turn what a runtime raises, which may be anything, into a CertificateError."""
    try:
        yield
    except CertificateError:
        raise
    except Exception as error:
        advice = "" if batch else " (a fixed batch may help: --batch 1)"
        raise CertificateError(f"{path.name} does not run: {reason(error)}{advice}") from error


def _sizes(count: int, most: int) -> Iterator[int]:
    """Yield sizes of batches that add up to `count`: 1, 7, and then `most` again and again."""
    for size in chain((1, 7), repeat(most)):
        if count <= 0:
            return
        yield min(size, most, count)
        count -= min(size, most, count)


def _problem(row: dict[str, Any]) -> str:
    """Say what is out of tolerance; empty if nothing is."""
    error, tolerance = row["max_rel_error"], row["tolerance"]
    on = f"on {row['images']:,} images"
    if not error <= tolerance:
        allowed = f"the tolerance {tolerance:g}"
        return f"the largest error is {error:.3g} of the largest logit {on}, {allowed}"
    most = max(1, int(CHANGED * tolerance * row["predictions"]))
    if row["predictions_changed"] > most:
        changed = f"{row['predictions_changed']:,} of {row['predictions']:,}"
        return f"{changed} predictions changed {on}, at most {most:,} may"
    return ""


def _loss(row: dict[str, Any], first: str, lost: float) -> str:
    """Say what metric is too low; empty if it is not."""
    before, after = (row["metrics"][which][first] for which in ("compact", "export"))
    if before - after <= lost:
        return ""
    on = f"on {row['images']:,} images"
    return f"{first} is {after:.6g}, not {before:.6g}, {on}: at most {lost:g} may be lost"


def latency(
    call: Call, network: nn.Module, image: Tensor, threads: int, batches: Sequence[int]
) -> list[dict[str, Any]]:
    """Return a row a batch: medians and 95th percentiles in ms, of the artefact and of torch.

    `image` is [1, C, H, W].
    """
    rows = []
    for batch in batches:
        images = image.repeat(batch, 1, 1, 1)
        calls = {"": partial(call, images.numpy()), "torch_": partial(network, images)}
        row: dict[str, Any] = {"batch": batch, "threads": threads}
        for name, seconds in interleaved(calls).items():
            median, p95 = median_p95(seconds)
            row |= {f"{name}median_ms": median, f"{name}p95_ms": p95}
        rows.append(row)
    return rows


def fitted(call: Call, batch: int | None) -> Call:
    """Return a call for any number of images, of one for `batch` images: the last fills it up."""
    if batch is None:
        return call

    def filled(images: np.ndarray) -> np.ndarray:
        outputs = []
        for start in range(0, len(images), batch):
            part = images[start : start + batch]
            whole = np.concatenate([part, part[-1:].repeat(batch - len(part), 0)])
            outputs.append(call(whole)[: len(part)])
        return np.concatenate(outputs)

    return filled


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Give torch so many threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def described(path: Path) -> dict[str, Any]:
    """Return "bytes" and "sha256" of the file `path`, and of the files beside it in its folder.

    "bytes" are those of all; "beside" has the sha256 of each other file by name, if there are any.
    """
    files = sorted(each for each in path.parent.rglob("*") if each.is_file())
    hashes = {}
    for each in files:
        with each.open("rb") as file:
            name = str(each.relative_to(path.parent))
            hashes[name] = hashlib.file_digest(file, "sha256").hexdigest()
    about = {"bytes": sum(each.stat().st_size for each in files), "sha256": hashes.pop(path.name)}
    return about | ({"beside": hashes} if hashes else {})


def _batch(views: Views, size: int) -> Any:
    return views.__getitems__([(0, i) for i in range(size)])
