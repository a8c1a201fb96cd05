"""Loss landscapes: loss and error around trained networks, expanded and compressed."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import nn
from torch.optim.swa_utils import update_bn

from kdx import checkpoints
from kdx.data import Views, eval_loader
from kdx.data.counter import permutation
from kdx.launch.memory import at_once
from kdx.models import weights
from kdx.protocols import ImageSource
from kdx.tasks import primary_metric
from kdx.util.printing import say
from kdx.util.words import counted
from kdx_lab.analysis.bands import write_numbers
from kdx_lab.analysis.directions import directions, moved
from kdx_lab.analysis.grid import Landscape, LandscapeGrid, Landscapes
from kdx_lab.analysis.landscape_figures import draw_curves, draw_surfaces
from kdx_lab.analysis.opening import Opened, kept_epochs, open_run
from kdx_lab.analysis.runs import Group, Run

__all__ = ["analyze_landscape"]


def analyze_landscape(
    groups: Sequence[Group], output: Path, console: Console, **options: Any
) -> Path:
    """Draw the loss landscapes of groups of runs; return the path of the last figure.

    `options` are those of `LandscapeGrid`: `points` along each of `dims` random directions, filter-
    normalised and drawn by `seed`, from -`span` to `span`; loss and error on `images` training
    images without augmentation; BatchNorm with the statistics of the trained network (`fixed`), or
    recomputed from the images at each point (`refit`). Results are stored in the run directory.

    Raises ValueError if a run cannot be opened, or its task reports no loss.
    """
    grid = LandscapeGrid(**options)
    found = [[_of_run(run, grid, console) for run in group.runs] for group in groups]
    draw = draw_curves if grid.dims == 1 else draw_surfaces
    return draw(groups, found, grid, output, console)


def _of_run(run: Run, grid: LandscapeGrid, console: Console) -> Landscapes:
    """Return the landscapes of a run's networks: stored ones, or else measured now."""
    checkpoint = kept_epochs(run).get(run.summary.exported_epoch)
    if checkpoint is None:
        raise ValueError(
            f"{run.path}/checkpoints: no checkpoint of epoch {run.summary.exported_epoch}, which "
            "was exported: restore it from a backup"
        )
    student = sha256((run.path / weights.FILE_IN_RUN).read_bytes()).hexdigest()
    made_from = {
        **asdict(grid), "student": student, "checkpoint": checkpoints.digest_of(checkpoint)
    }  # fmt: skip
    if run.summary.exported == "average":
        made_from["exported"] = "average"
    path = run.analysis / f"losses_{grid.dims}d.json"
    kept = _kept(path, made_from)
    if kept is None:
        kept = _measure(run, checkpoint, grid, console)
        write_numbers(path, {"made from": made_from, "landscapes": kept})
        kept = _kept(path, made_from)
        assert kept is not None, "it has just been written"
    return kept


def _kept(path: Path, made_from: Mapping[str, Any]) -> Landscapes | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        return known["landscapes"] if known["made from"] == made_from else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _measure(run: Run, checkpoint: Path, grid: LandscapeGrid, console: Console) -> Landscapes:
    opened = open_run(run)
    opened.load(checkpoint)
    compact = opened.job.compact
    weights.load(compact, run.path)
    networks = {"compact": compact.to(opened.runtime.accelerator.device)}
    if opened.job.transforms and run.summary.exported == "student":  # an average is compact
        networks["trained"] = opened.job.student
    what = f"{counted(len(grid.places), 'point')} around {counted(len(networks), 'network')}"
    say(console, f"measure  {run.path}: {what}")
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(run.recipe.name, total=len(networks) * len(grid.places))
        found = {
            name: _around(opened, network, grid, lambda: bar.advance(task))
            for name, network in networks.items()
        }
    return {"trained": found["compact"], **found}


def _around(
    opened: Opened, network: nn.Module, grid: LandscapeGrid, advance: Callable[[], object]
) -> Landscape:
    """Return loss and error of a network at all points of the grid, and its sizes."""
    job, train = opened.job, opened.job.splits.train
    images = train.subset(permutation(grid.seed, 0, len(train))[: grid.images])
    first = primary_metric(job.task)
    found = []
    with moved(network, directions(network, grid.dims, seed=grid.seed)) as place:
        for at in grid.places:
            place(at)
            if grid.batchnorm == "refit":
                _refit(opened, network, images)
            found.append(opened.runtime.evaluate(network, images).metrics)
            if "loss" not in found[0]:
                raise ValueError(
                    f"{opened.run.path}: its task reports no loss, only {', '.join(found[0])}: a "
                    "landscape needs a run of classification or segmentation"
                )
            advance()
    return {
        "loss": [each["loss"] for each in found],
        "error": [1 - each[first] for each in found],
        "images": len(images),
        "parameters": sum(p.numel() for p in network.parameters()),
        "moved": sum(p.numel() for p in network.parameters() if p.dim() > 1),
    }


def _refit(opened: Opened, network: nn.Module, images: ImageSource) -> None:
    """Recompute BatchNorm's statistics: the mean over batches of the images."""
    views = Views(images, opened.job.data.input, seed=opened.job.recipe.seed)
    size = min(256, at_once(views.shape))
    with torch.no_grad():
        update_bn(eval_loader(views, batch_size=size), network, opened.runtime.accelerator.device)
