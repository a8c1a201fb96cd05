"""Latency and size of a run's teacher, its student and its exports, side by side."""

import json
from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdx.exporting import FORMATS
from kdx.exporting.artefact import torch_threads
from kdx.exporting.formats import load as load_format
from kdx.exporting.latency import interleaved, median_p95
from kdx.exporting.source import CERTIFICATE, Source, open_source
from kdx.models.networks import build_teacher, has_weights
from kdx.recipe import load
from kdx.util.errors import reason


@torch.no_grad()
def bench(
    path: str | PathLike[str],
    *,
    batches: Sequence[int] = (1, 32),
    threads: int = 1,
    recipe: str | PathLike[str] | None = None,
    plugins: Sequence[str] = (),
    output_root: str | PathLike[str] = "runs",
) -> list[dict[str, Any]]:
    """Measure the teacher (if its weights are there), the student and the exports of a run.

    Returns rows of "name", "batch", "threads", "median_ms", "p95_ms" and "bytes", those of the
    weights or of the file; of "problem" for what does not run on that batch. Arguments as of
    `kdx.export`.
    """
    source = open_source(path, recipe, plugins=plugins, output_root=output_root)
    image, rows = source.images(1)[:1], []
    with torch_threads(threads):
        networks = {**_teacher(source, recipe, plugins, output_root), "student": source.network}
        opened = _exports(source, threads)
        for batch in batches:
            images = image.repeat(batch, 1, 1, 1)
            calls = {name: partial(each, images) for name, (each, _) in opened.items()}
            calls = {n: partial(each, images) for n, each in networks.items()} | calls
            sizes = {n: _bytes(each) for n, each in networks.items()}
            sizes |= {name: size for name, (_, size) in opened.items()}
            problems = {name: problem for name, call in calls.items() if (problem := _tried(call))}
            timed = interleaved({n: call for n, call in calls.items() if n not in problems})
            for name in calls:
                row = {"name": name, "batch": batch, "threads": threads, "bytes": sizes[name]}
                if name in problems:
                    rows.append(row | {"problem": problems[name]})
                else:
                    median, p95 = median_p95(timed[name])
                    rows.append(row | {"median_ms": median, "p95_ms": p95})
    return rows


def _teacher(
    source: Source,
    recipe: str | PathLike[str] | None,
    plugins: Sequence[str],
    output_root: str | PathLike[str],
) -> dict[str, nn.Module]:
    """Return the run's teachers whose weights are there, by name, as the batches' networks."""
    file = Path(recipe) if recipe else (source.run or source.path.parent) / "recipe.yaml"
    if not file.is_file():
        return {}
    found, made = load(file, plugins=plugins, output_root=output_root), {}
    for name, section in found.all_teachers.items():
        if section.weights and has_weights(section.weights):
            opened = source.opened
            teacher = build_teacher(section, opened.data, opened.student, load=True)
            made[f"teacher {name}".strip()] = _Seeing(teacher).eval()
    return made


class _Seeing(nn.Module):
    """A teacher with what it does to the student's images."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher, self.network = teacher, teacher.module

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.teacher.see(images))


def _exports(source: Source, threads: int) -> dict[str, tuple[Callable[[Tensor], object], int]]:
    """Open the artefacts of certificate.json that are there."""
    place = source.run or source.folder
    certificate = place / CERTIFICATE
    if not certificate.is_file():
        return {}
    found = {}
    for row in json.loads(certificate.read_text(encoding="utf-8")).get("exports", []):
        file, format = place / row["file"], row["format"]
        if format in FORMATS and file.is_file():
            call = load_format(FORMATS[format]).open(file, threads=threads)
            found[row["file"]] = partial(_called, call), row["bytes"]
    return found


def _called(call: Callable[..., object], images: Tensor) -> object:
    return call(images.numpy())


def _bytes(network: nn.Module) -> int:
    return sum(value.nbytes for value in network.state_dict().values())


def _tried(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:  # the runtimes raise anything, as for another batch
        return reason(error).strip().splitlines()[0]
    return ""
