"""The experiment trackers that a recipe can name: Accelerate's, with arguments of their own.

`RUN_ID` says what continues a tracker's run, `REACH` asks whether one can start, `HAND_OVER`
uploads files; by the same names.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kdx.protocols import Tracker
from kdx.recipe import Component
from kdx.recipe.errors import each_of

__all__ = ["TABLE", "mlflow", "tensorboard", "trackio", "wandb"]

PROJECT = "kdx"


def tensorboard(
    *, run_dir: Path, max_queue: int = 10, flush_secs: int = 120, filename_suffix: str = ""
) -> Tracker:
    """TensorBoard, in tensorboard/ of the run directory."""
    from accelerate.tracking import TensorBoardTracker  # here, as in all: it brings accelerate

    more = {"max_queue": max_queue, "flush_secs": flush_secs, "filename_suffix": filename_suffix}
    return TensorBoardTracker("tensorboard", run_dir, **more)


def wandb(
    *, project: str = PROJECT, run_name: str, run_id: str | None = None, **arguments: Any
) -> Tracker:
    """Weights & Biases; other arguments are those of `wandb.init`, such as `mode: offline`."""
    from accelerate.tracking import WandBTracker

    return WandBTracker(project, **{"name": run_name, "id": run_id, "resume": "allow", **arguments})


def mlflow(
    *,
    project: str = PROJECT,
    run_name: str,
    run_id: str | None = None,
    logging_dir: str | None = None,
    tags: dict[str, str] | None = None,
    nested_run: bool = False,
    description: str | None = None,
) -> Tracker:
    """MLflow, at MLFLOW_TRACKING_URI; `project` is the experiment."""
    from accelerate.tracking import MLflowTracker

    class Logging(MLflowTracker):
        """Accelerate's, with metrics by names that MLflow takes."""

        def log(self, values: dict[str, Any], step: int | None = None, **more: Any) -> None:
            super().log(_allowed_by_mlflow(values), step, **more)

    return Logging(
        project,
        logging_dir=logging_dir,
        run_id=run_id,
        run_name=run_name,
        tags=tags,
        nested_run=nested_run,
        description=description,
    )


def _allowed_by_mlflow(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics by names that MLflow takes: "mae/height _cm_" for "mae/height (cm)"."""
    allowed: dict[str, Any] = {}
    for name, value in values.items():
        taken = re.sub(r"[^\w.\- :/]", "_", name)
        while taken in allowed:
            taken += "_"
        allowed[taken] = value
    return allowed


def trackio(
    *, project: str = PROJECT, run_name: str, run_id: str | None = None, **arguments: Any
) -> Tracker:
    """Trackio, by default on this machine; other arguments are those of `trackio.init`."""
    from accelerate.tracking import TrackioTracker

    own = {"name": run_id or run_name, "resume": "allow" if run_id else "never"}
    return TrackioTracker(project, **{**own, **arguments})


TABLE: dict[str, Callable[..., Tracker]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
    "trackio": trackio,
}

RUN_ID: Mapping[str, Callable[[Any], str]] = {
    "wandb": lambda tracker: tracker.tracker.id,
    "mlflow": lambda tracker: tracker.tracker.info.run_id,
    "trackio": lambda tracker: tracker.tracker.name,
}


def _reach_mlflow(tracker: Any) -> None:
    import mlflow  # pyright: ignore[reportMissingImports]

    found = mlflow.get_experiment_by_name(tracker.experiment_name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise ValueError(f"the experiment {found.name!r} was deleted: restore it, or set project")
    if tracker.run_id:
        mlflow.get_run(tracker.run_id)


REACH: Mapping[str, Callable[[Any], None]] = {"mlflow": _reach_mlflow}


def check_installed(trackers: Sequence[Component]) -> None:
    """Raise RecipeError with all trackers whose package is not installed."""

    def check(part: Component) -> None:
        if part.use in TABLE and find_spec(part.use) is None:
            extra = f"pip install 'kdx[{part.use}]'"
            raise part.refusal(f"the package {part.use} is not installed: {extra}")

    each_of(check, trackers)


def _to_wandb(tracker: Any, report: Path, pictures: Sequence[Path], epoch: int) -> None:
    if pictures:
        tracker.log_images({"pictures": list(map(str, pictures))}, step=epoch)
    tracker.tracker.save(str(report), base_path=str(report.parent), policy="now")


def _to_mlflow(tracker: Any, report: Path, pictures: Sequence[Path], epoch: int) -> None:
    from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

    client, run = MlflowClient(), tracker.tracker.info.run_id
    for path in (report, *pictures):
        folder = path.parent.relative_to(report.parent).as_posix()
        client.log_artifact(run, str(path), None if folder == "." else folder)


def _to_trackio(tracker: Any, report: Path, pictures: Sequence[Path], epoch: int) -> None:
    from trackio import Image, Markdown  # pyright: ignore[reportMissingImports]

    files = {f"pictures/{path.stem}": Image(path) for path in pictures}
    tracker.log({**files, "report": Markdown(report.read_text(encoding="utf-8"))}, step=epoch)


HAND_OVER: Mapping[str, Callable[[Any, Path, Sequence[Path], int], None]] = {
    "wandb": _to_wandb,
    "mlflow": _to_mlflow,
    "trackio": _to_trackio,
}
