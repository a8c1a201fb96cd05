"""`kdx.export`: write an artefact, run it in its own runtime, compare, and only then keep it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdx.exporting import FORMATS
from kdx.exporting.artefact import check, described
from kdx.exporting.formats import Format, Options, Write, load, quiet, runtime
from kdx.exporting.int8 import check_format, quantising
from kdx.exporting.keeping import beside, check_free, keep, name_in_certificate, read_certificate
from kdx.exporting.source import CERTIFICATE, Source, open_source
from kdx.exporting.tracing import other_size, shape, takes
from kdx.recipe.paths import RECIPE
from kdx.report import write_report_page
from kdx.tasks import numbers_of
from kdx.util.errors import reason

EXAMPLES = 4  # images that a network is traced on
CALIBRATION = 512  # training images that int8 is calibrated on


@dataclass(frozen=True)
class Exported:
    """An artefact at `path`, and its `row` in certificate.json.

    `numbers` are the metrics that are not shares in [0, 1]; `notes` are what to know of it.
    """

    path: Path
    row: dict[str, Any]
    numbers: Sequence[str]
    notes: Sequence[str] = ()


def export(
    path: str | os.PathLike[str],
    to: str,
    output: str | os.PathLike[str] | None = None,
    *,
    recipe: str | os.PathLike[str] | None = None,
    batch: int | None = None,
    preprocess: bool = False,
    int8: bool = False,
    tolerance: float | None = None,
    max_loss: float = 1.0,
    images: int | None = None,
    threads: int = 1,
    license: str | None = None,
    push_to_hub: str | None = None,
    key: str | None = None,
    overrides: Sequence[str] = (),
    plugins: Sequence[str] = (),
    output_root: str | os.PathLike[str] = "runs",
) -> Exported:
    """Export the student of a run directory, weight file or checkpoint to a format of `FORMATS`.

    `output` is the file or a folder for it, by default exports/ in the run. `batch` fixes the
    batch; it is free by default. With `preprocess` the graph takes pixels, uint8. The artefact is
    run in its own runtime on `images` test images (see `kdx.exporting.artefact.check`) with so many
    `threads`, and kept only if it differs from the compact student by at most `tolerance`, a share
    of the largest logit: by default the recipe's, in float32. With `int8` it is quantised (see
    `kdx.exporting.int8`), and kept if it loses at most `max_loss` points (%) of the first metric.
    Its row goes to the run's certificate.json, or for other students to one beside it.

    For timm, `output` is a folder, `license` goes to the model card, and `push_to_hub` names a
    repository of the Hugging Face Hub that the folder is uploaded to afterwards.

    `recipe`, `key`, `overrides` and the rest are as in `kdx.evaluate`. Raises CertificateError for
    an artefact that does not run or is out of tolerance: nothing is written then, and an earlier
    file stays. ValueError for a format that is unknown or not installed, and a network that it
    cannot hold; else as `kdx.evaluate`.
    """
    _check_asked(to, int8=int8, push_to_hub=push_to_hub, license=license)
    for name, number in {"batch": batch, "threads": threads, "images": images}.items():
        if number is not None and number < 1:
            raise ValueError(f"{name}: {number} is not at least 1")
    format = load(FORMATS[to])
    source = open_source(
        path, recipe, key=key, overrides=overrides, plugins=plugins, output_root=output_root,
        from_pixels=preprocess)  # fmt: skip
    write = quantising(to, source.calibration(CALIBRATION)) if int8 else format.write
    final = _place(output, format, source, int8=int8)
    certificate = (source.run or final.parent) / CERTIFICATE
    exports = read_certificate(certificate)["exports"]
    if output:
        check_free(final, name_in_certificate(final, source), exports)
    about = source.about() | (source.results() if to == "timm" else {})
    about |= {"license": license} if license else {}
    output_name = "output" if "anchors" in source.opened.task.facts else "logits"
    options = Options(batch, output=output_name, about=about)
    tolerance = source.opened.recipe.tolerance.float32 if tolerance is None else tolerance
    with beside(final) as candidate:
        options, notes = _write(format, write, source, candidate, options)
        row = {"format": to, "file": name_in_certificate(final, source)}
        row |= {"runtime": runtime(format), "input": source.dtype}
        row |= described(candidate) | check(
            format.open, candidate, source.network, source.views, source.opened.task,
            prepare=source.prepare, batch=batch, images=images, threads=threads,
            tolerance=tolerance, lost=max_loss / 100 if int8 else None,
        )  # fmt: skip
        keep(candidate, final, certificate, row | {"notes": notes})
    if source.run and (source.run / RECIPE).is_file():
        write_report_page([source.run])
    if push_to_hub:
        notes.append(f"pushed to {_pushed(final.parent, push_to_hub)}")
    return Exported(final, row, numbers_of(source.opened.task), [*source.opened.notes, *notes])


def _check_asked(to: str, *, int8: bool, **for_timm: str | None) -> None:
    """Raise ValueError for an unknown format, and for what it does not have."""
    for name, given in for_timm.items():
        if given and to != "timm":
            raise ValueError(f"{name}: {given!r} is for the format timm alone: --to timm")
    if to not in FORMATS:
        raise ValueError(f"unknown format {to!r}. Known: {', '.join(FORMATS)}")
    if int8:
        check_format(to)


def _place(
    output: str | os.PathLike[str] | None, format: Format, source: Source, *, int8: bool
) -> Path:
    """Return the artefact's path; ValueError unless `output` ends as the format's files do."""
    name = Path(format.FILE.format(name=source.name + ".int8" * int8))
    given = Path(output) if output else source.folder / name
    if output and name.parent != Path():  # timm's is a folder
        return given / name.name
    if output and given.is_dir():
        return given / name
    if given.suffix != name.suffix:
        must = f"must be an existing folder or end in {name.suffix}"
        raise ValueError(f"output: {str(given)!r} {must}")
    return given


def _write(
    format: Format, write: Write, source: Source, path: Path, options: Options
) -> tuple[Options, list[str]]:
    """Write an artefact; return the options that it has, and notes.

    Height and width are free if that is found to work.
    """
    network, images = source.network, source.images(EXAMPLES)
    larger = other_size(images)
    free = format.FREE_SIZE and options.batch is None and takes(network, larger)
    for free_size in (True, False) if free else (False,):
        options = replace(options, free_size=free_size)
        try:
            with quiet():
                write(network, images, path, options)
                within = 1e-3 if write is format.write else 0.5
                if free_size and not _follows(format, source, path, larger, within):
                    continue
        except Exception as error:  # the exporters raise anything
            if free_size:
                continue
            if isinstance(error, ValueError | MemoryError | torch.OutOfMemoryError):
                raise
            first = reason(error).strip().splitlines()[0]
            raise ValueError(f"{path.name} cannot be written: {first}") from error
        break
    names = shape(images, batch=options.batch, free_size=options.free_size)
    limit = f", at most {format.MOST}" if format.MOST and options.batch is None else ""
    taken = f"images {source.dtype} [{', '.join(map(str, names))}]{limit}"
    return options, [f"{taken}; output {options.output!r}"]


def _follows(format: Format, source: Source, path: Path, images: Tensor, within: float) -> bool:
    """Return whether an artefact is right on images of another size than it was traced on."""
    expected = source.network(images)
    try:
        found = torch.from_numpy(format.open(path)(images.numpy()))
    except Exception:  # the runtimes raise anything
        return False
    scale = expected.abs().max().clamp(min=1e-6)
    return found.shape == expected.shape and bool((found - expected).abs().max() <= within * scale)


def _pushed(folder: Path, repository: str) -> str:
    """Upload a folder to the Hugging Face Hub; return the address. ValueError if that fails."""
    from huggingface_hub import HfApi

    api = HfApi(library_name="kdx")
    try:
        name = api.create_repo(repository, exist_ok=True).repo_id
        return str(api.upload_folder(repo_id=name, folder_path=folder, commit_message="Add model"))
    except Exception as error:  # the hub's, the network's
        kept = f"{folder} is written; log in with `hf auth login` and try again"
        raise ValueError(f"push_to_hub: {repository}: {reason(error)}. {kept}") from error
