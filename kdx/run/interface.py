"""The Python interface: `kdx.distill`, what it returns, and students read from disk."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from torch import nn

from kdx.models import weights
from kdx.models.certificate import Certificate
from kdx.models.networks import facts
from kdx.recipe import Recipe, allow
from kdx.recipe import load_student as load_section
from kdx.recipe.loading import read
from kdx.recipe.paths import Locations
from kdx.report.summary import Summary, read_summary
from kdx.run.objects import recipe_of_objects
from kdx.run.run import run
from kdx.training.runtime import caller_unchanged
from kdx.util.copies import copied

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run in the directory `path`.

    `student` is the compact network with its weights, on the CPU and in eval mode; `summary` has
    what summary.json has.
    """

    path: Path
    student: nn.Module
    summary: Summary
    certificate: Certificate

    def __repr__(self) -> str:
        """Return the directory and the metrics on the test images."""
        metrics = ", ".join(f"{name}={value:.4g}" for name, value in self.metrics.items())
        return f"Run({os.fspath(self.path)!r}, {metrics})"

    @property
    def metrics(self) -> dict[str, float]:
        """The compact student's metrics on the test images: of a classifier "top1", "loss", ..."""
        return self.summary.test

    @classmethod
    def open(
        cls, path: PathLike, *, network: nn.Module | None = None, plugins: Sequence[str] = ()
    ) -> "Run":
        """Open a finished run; ValueError if it is not one, and as `load_student`."""
        summary = read_summary(Path(path))
        found = (Path(path) / "certificate.json").read_bytes()
        certificate = TypeAdapter(Certificate).validate_json(found)
        student = load_student(path, network=network, plugins=plugins)
        return cls(Path(path), student, summary, certificate)


@caller_unchanged()
def distill(
    recipe: PathLike | Mapping[str, Any] | Recipe | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    fork: PathLike | None = None,
    plugins: Sequence[str] = (),
    output_root: PathLike = "runs",
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train a student and return the run: `kdx distill` in Python.

    `recipe` is the path of a YAML file, or a mapping with the same keys. `settings` override them:
    a mapping is merged (`data={"batch_size": 64}`), but one with a `use` replaces the section;
    dotted keys work too (`**{"student.transforms.0.rate": 8}`).

    Without a recipe, pass objects, which are copied: `student` and `teacher` (modules; several
    teachers by name in a mapping; "ema" or {"use": "ema", "decay": 0.99} is the student's moving
    average), `train` and `test` (Datasets, see `kdx.data.from_datasets`, also
    for `task`, `num_classes`, `mean`, `std`), `losses` (a loss; or losses and pairs (weight, loss),
    in a list or by name; required with a teacher), `transforms`, `optimizer` and `schedule`
    (mappings, classes or partials), `batch_size`, `workers`, `validation`, `limit`, `mixup`,
    `cutmix`, `repeats`, `memo`, and any key of a recipe, such as `epochs`, `seed` or `name`.

    `resume` continues the run of this name, or returns it if it is finished; `overwrite` replaces
    it; `fork` starts from another run's checkpoint. `plugins` and `output_root` as in
    `kdx.recipe.load`. Random generators and CPU threads are as before the call afterwards.

    Raises RecipeError or ValueError for what does not fit, FileExistsError if there is such a run,
    TrainingError, CertificateError, and Stopped by a signal such as Ctrl-C.
    """
    if resume and overwrite:
        raise ValueError("resume continues a run, overwrite replaces it: choose one")
    if isinstance(recipe, Recipe) and settings:
        raise ValueError(f"{', '.join(settings)}: a Recipe takes no overrides: pass them to load()")
    if isinstance(recipe, Recipe):
        if more := [each for each in plugins if each not in recipe.locations.plugins]:
            raise ValueError(f"plugins: a Recipe has its own, without {more[0]}: pass it to load()")
        if Path(output_root) not in (Path("runs"), own := recipe.locations.output_root):
            raise ValueError(f"output_root: a Recipe has its own, {own}: pass another to load()")
    if settings.get("name", "") is None:
        del settings["name"]
    allow(plugins)
    network = settings.get("student") if recipe is None else None
    if not isinstance(recipe, Recipe):
        recipe = _read(recipe, settings, Path(output_root), tuple(plugins))
    options: dict[str, Any] = {} if fork is None else {"fork": Path(fork)}
    console = Console(quiet=quiet, markup=False, emoji=False)
    path = run(recipe, console, overwrite=overwrite, resume=resume, **options)
    network = None if network is None else copied(network).cpu()
    return Run.open(path, network=network, plugins=recipe.locations.plugins)


def load_student(
    path: PathLike,
    *,
    network: nn.Module | None = None,
    plugins: Sequence[str] = (),
    key: str | None = None,
) -> nn.Module:
    """Return the compact student of a run directory or .safetensors file, in eval mode.

    It is built as the file's metadata says and loaded strictly; `plugins` are modules, besides
    kdx, expand and teachers, that it may come from. If given, `network` is loaded instead, from any
    file that `kdx.models.weights.load` takes; `key` is where in it the weights are ("model_ema").

    Raises FileNotFoundError, RecipeError for a network that cannot be built, ValueError for a file
    that is damaged, does not fit, or does not say what its network is.
    """
    if network is None:
        network = _described(path, plugins)
    weights.load(network, path, key=key, network=type(network).__name__)
    return network.eval()


def overrides_of(settings: Mapping[str, Any]) -> list[str]:
    """Return keyword overrides as on the command line; mappings without a `use` are merged."""
    found: list[str] = []
    for key, value in settings.items():
        if isinstance(value, Mapping) and value and "use" not in value:
            found += [f"{key}.{text}" for text in overrides_of(value)]
        else:
            found.append(f"{key}={_json(value)}")
    return found


def _read(
    recipe: PathLike | Mapping[str, Any] | None,
    settings: dict[str, Any],
    output_root: Path,
    plugins: tuple[str, ...],
) -> Recipe:
    given: Any = None
    if isinstance(recipe, Mapping):
        given = json.loads(_json(recipe))
        use = given["student"].get("use") if isinstance(given.get("student"), dict) else None
        given["name"] = given.get("name") or f"python/{str(use).rpartition('.')[2]}"
    elif recipe is not None and not isinstance(recipe, str | os.PathLike):
        raise ValueError(f"recipe: a path or a mapping expected, not a {type(recipe).__name__}")
    elif recipe is None:
        if missing := [key for key in ("student", "train", "test") if settings.get(key) is None]:
            raise ValueError(
                f"{', '.join(missing)}: missing: pass a recipe (a path or a mapping), or objects: "
                "student=module, train=dataset, test=dataset"
            )
        given, settings = recipe_of_objects(**settings)
        given = _numbers(given)
    path = recipe if isinstance(recipe, str | os.PathLike) else "the recipe"
    locations = Locations(Path(path), output_root, plugins)
    return read(locations, overrides_of(settings), given=given)


def _numbers(value: Any) -> Any:
    """Return a part of a recipe with Python's numbers in place of NumPy's."""
    if isinstance(value, Mapping):
        return {key: _numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _json(value: Any) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if isinstance(value, np.generic):
            return value.item()
        raise ValueError(
            f"{type(value).__name__} objects cannot stand in a recipe: pass objects without one, "
            "kdx.distill(student=module, train=dataset, test=dataset)"
        )

    return json.dumps(value, default=plain, ensure_ascii=False)


def _described(path: PathLike, plugins: Sequence[str]) -> nn.Module:
    """Build the network that a file describes, with random weights."""
    about, spec = weights.read_metadata(path), weights.read_spec(path)
    extra = about["extra"] if about else {}
    use, arguments, told = extra.get("use"), extra.get("arguments"), extra.get("facts")
    if about is None or spec is None or not isinstance(use, str) or use.startswith("object:"):
        raise ValueError(
            f"{path} does not say how to build its network{f': it is {use!r}' if use else ''}. "
            "Build it and pass it: load_student(path, network=module)"
        )
    allow(plugins)
    section = {**(arguments if isinstance(arguments, dict) else {}), "use": use}
    section |= {"pretrained": False} if "pretrained" in section else {}  # its weights follow
    component = load_section(section, plugins=plugins).component
    task = {"num_classes": about["classes"], **(told if isinstance(told, dict) else {})}
    return component.build(**facts(task, spec))
