"""Latency, size and memory of a run's teacher, its student and its exports, side by side."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from kdx.exporting import FORMATS
from kdx.exporting.artefact import torch_threads
from kdx.exporting.formats import load as load_format
from kdx.exporting.latency import interleaved, median_p95
from kdx.exporting.memory import NETWORK, measure
from kdx.exporting.source import CERTIFICATE, Source, open_source
from kdx.models.networks import build_teacher, has_weights
from kdx.recipe import load
from kdx.util.errors import reason


@dataclass(frozen=True)
class Contender:
    """A network or an artefact: `call` takes images such as `image`, [1, C, H, W].

    `module` and `file` are as of `kdx.exporting.memory.measure`.
    """

    call: Callable[[Tensor], object]
    image: Tensor
    bytes: int
    module: str
    file: Path


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

    Returns rows of "name", "batch", "threads", "median_ms", "p95_ms", "bytes", those of the
    weights or of the file, and "peak_bytes", as of `kdx.exporting.memory.peak`, None if unknown;
    of "problem" for what does not run on that batch. Arguments as of `kdx.export`.
    """
    source = open_source(path, recipe, plugins=plugins, output_root=output_root)
    image, rows = source.images(1)[:1], []
    with torch_threads(threads), TemporaryDirectory() as folder:
        networks = {**_teacher(source, recipe, plugins, output_root), "student": source.network}
        found = {name: _saved(each, image, Path(folder) / name) for name, each in networks.items()}
        found |= _exports(source, threads)
        for batch in batches:
            images = {name: each.image.repeat(batch, 1, 1, 1) for name, each in found.items()}
            calls = {name: partial(each.call, images[name]) for name, each in found.items()}
            problems = {name: problem for name, call in calls.items() if (problem := _tried(call))}
            timed = interleaved({n: call for n, call in calls.items() if n not in problems})
            for name, each in found.items():
                row = {"name": name, "batch": batch, "threads": threads, "bytes": each.bytes}
                if name in problems:
                    rows.append(row | {"problem": problems[name]})
                    continue
                median, p95 = median_p95(timed[name])
                memory = measure(each.module, each.file, images[name].numpy(), threads=threads)
                rows.append(row | {"median_ms": median, "p95_ms": p95, "peak_bytes": memory})
    return rows


def _saved(network: nn.Module, image: Tensor, path: Path) -> Contender:
    """Write a network to a file; if it cannot be, its memory is unknown."""
    with suppress(Exception):  # a module's attributes may be anything
        torch.save(network, path)
    size = sum(value.nbytes for value in network.state_dict().values())
    return Contender(network, image, size, NETWORK, path)


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
            made["teacher" if name == "teacher" else f"teacher {name}"] = _Seeing(teacher).eval()
    return made


class _Seeing(nn.Module):
    """A teacher with what it does to the student's images."""

    def __init__(self, teacher: Any) -> None:
        super().__init__()
        self.teacher, self.network = teacher, teacher.module

    def forward(self, images: Tensor) -> Tensor:
        return self.network(self.teacher.see(images))


def _exports(source: Source, threads: int) -> dict[str, Contender]:
    """Return the artefacts of certificate.json that are there; `call` opens them when called."""
    place = source.run or source.folder
    certificate = place / CERTIFICATE
    if not certificate.is_file():
        return {}
    found = {}
    for row in json.loads(certificate.read_text(encoding="utf-8")).get("exports", []):
        file, format = place / row["file"], row["format"]
        if format in FORMATS and file.is_file():
            image = replace(source, from_pixels=row.get("input") == "uint8").images(1)[:1]
            call = _opening(FORMATS[format], file, threads)
            found[row["file"]] = Contender(call, image, row["bytes"], FORMATS[format], file)
    return found


def _opening(module: str, file: Path, threads: int) -> Callable[[Tensor], object]:
    """Return a call of an artefact, which the first one opens."""
    opened = cache(lambda: load_format(module).open(file, threads=threads))
    return lambda images: opened()(images.numpy())


def _tried(call: Callable[[], object]) -> str:
    try:
        call()
    except Exception as error:  # the runtimes raise anything, as for another batch
        return reason(error).strip().splitlines()[0]
    return ""
