"""A recipe as a whole: everything that it may say at its top level, with types and defaults.

Its sections are in `sections.py`.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, Field, InstanceOf, PrivateAttr, StrictBool

from kdx.recipe.arguments import Component, parameters_of
from kdx.recipe.data import Data
from kdx.recipe.fields import Count, Natural, Precision, RunName
from kdx.recipe.optimizing import Average, Clipping, Optimizer
from kdx.recipe.paths import Locations
from kdx.recipe.resuming import MAY_DIFFER, Resume
from kdx.recipe.sections import (
    MOST,
    Section,
    Student,
    Teacher,
    Teachers,
    Tolerance,
    Trackers,
)
from kdx.recipe.stages import Losses, LossTerm, StageSection, name_stages
from kdx.recipe.yaml_source import scalar

OF_OBJECTS = """\
# Started from Python by kdx.distill(student=..., train=..., ...). What `object:` stands before were
# Python objects, so that no command can run this recipe again: run the Python program.
"""


@dataclass(frozen=True)
class Stage:
    """A stage of training, complete. `phase` is what transforms enter, None to leave them."""

    name: str
    phase: str | None
    epochs: int
    losses: list[LossTerm]
    optimizer: Optimizer
    schedule: Component


class Recipe(Section):
    """A training run, checked and complete; comes from `load`."""

    name: Annotated[RunName, MAY_DIFFER] = Field(default="", validate_default=True)
    seed: Natural = 0
    data: Data
    teacher: Teacher | None = None
    teachers: Annotated[Teachers, Resume(since="0.2.0", absent={})] = Field({})
    student: Student
    losses: Losses
    optimizer: Optimizer
    schedule: InstanceOf[Component]
    epochs: Count = 150
    stages: Annotated[list[StageSection], AfterValidator(name_stages)] = Field([], max_length=MOST)
    precision: Precision | None = None
    processes: Annotated[Count | None, MAY_DIFFER] = None
    threads: Annotated[Annotated[Count, Field(le=256)] | None, MAY_DIFFER] = None
    channels_last: Annotated[StrictBool | None, MAY_DIFFER] = None
    compile: Annotated[StrictBool, MAY_DIFFER] = False
    accumulate: Count = 1
    clip: Clipping = None
    patience: Annotated[Count | None, Resume(since="0.2.0", absent=None)] = None
    average: Annotated[Average | None, Resume(since="0.2.0", absent=None)] = None
    select: Annotated[Literal["last", "best"], MAY_DIFFER] = "last"
    evaluate_every: Annotated[Count, MAY_DIFFER] = 1
    train_metrics: Annotated[StrictBool, Resume(True, since="0.1.0", absent=False)] = False
    log_every: Annotated[Count, MAY_DIFFER] = 50
    diagnose: Annotated[Natural, Resume(True, since="0.2.0", absent=0)] = 0
    checkpoint_every: Annotated[Count | None, MAY_DIFFER] = None
    keep_checkpoints: Annotated[Count, MAY_DIFFER] = 1
    skip_bad_steps: Annotated[Natural | None, MAY_DIFFER] = None
    trackers: Annotated[Trackers, Resume(True, since="0.2.0", absent="tensorboard")]
    tolerance: Annotated[Tolerance, MAY_DIFFER] = Tolerance()
    _locations: Locations = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remember how the recipe was loaded."""
        assert isinstance(context, Locations), "a recipe comes from `load`"
        self._locations = context

    @property
    def locations(self) -> Locations:
        """Where it was loaded from, and with what."""
        return self._locations

    @property
    def run_dir(self) -> Path:
        """The directory of the run, below the output root unless it was moved."""
        return self._locations.at or self._locations.output_root / self.name

    def at(self, run_dir: Path) -> "Recipe":
        """Return the recipe for a run directory that was moved."""
        copy = self.model_copy()
        copy._locations = replace(self._locations, at=run_dir)
        return copy

    @property
    def all_teachers(self) -> dict[str, Teacher]:
        """The teachers by name; the only one, of `teacher:`, is called "teacher"."""
        return {"teacher": self.teacher} if self.teacher else self.teachers

    def memos_dir(self, teacher: Teacher) -> Path:
        """Return the directory of a teacher's memos, below the output root unless it says other."""
        given = teacher.memo.directory if teacher.memo else None
        return Path(given) if given else self._locations.output_root / "memos"

    def resolved_stages(self) -> list[Stage]:
        """Return the stages, at least one, with everything filled in from the recipe."""
        return [
            Stage(
                stage.name,
                stage.phase,
                stage.epochs or self.epochs,
                stage.losses or self.losses,
                stage.optimizer or self.optimizer,
                stage.schedule or self.schedule,
            )
            for stage in self.stages or name_stages([StageSection()])
        ]

    def plain(self) -> dict[str, Any]:
        """Return the recipe with all defaults and overrides, as nested plain values."""
        return _plain(self)

    def to_yaml(self) -> str:
        """Return the recipe with all defaults and overrides, which `load` reads as the same.

        Without `epochs` where every stage sets its own, as `load` wants it.
        """
        return self._written(self.plain())

    def portable(self) -> dict[str, Any]:
        """Return `plain` with paths that mean the same from any working directory.

        Those of data and weights are absolute: of the data set its `root`, also by default, and
        what is annotated as a Path. That of memos is relative to the output root, if it is below.
        """
        content, component = self.plain(), self.data.component
        for name, parameter in parameters_of(component.factory)[0].items():
            default = parameter.default if name == "root" else None
            value = component.arguments.get(name, default)
            types = (parameter.annotation, *get_args(parameter.annotation))
            if (name == "root" or Path in types) and isinstance(value, str | Path):
                content["data"][name] = os.path.abspath(value)
        teachers = [*filter(None, [content["teacher"]]), *content["teachers"].values()]
        for section in (*teachers, content["student"]):
            if isinstance(weights := section["weights"], dict):
                weights["path"] = os.path.abspath(weights["path"])
            elif weights:
                section["weights"] = os.path.abspath(weights)
        for section in teachers:
            if (memo := section["memo"]) and memo["directory"]:
                memo["directory"] = self._locations.portable(memo["directory"])
        return content

    def portable_yaml(self) -> str:
        """Return `portable` as YAML, which is what a run directory holds."""
        return self._written(self.portable())

    def _written(self, content: dict[str, Any]) -> str:
        if self.stages and all(stage.epochs for stage in self.stages):
            del content["epochs"]
        text = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        return OF_OBJECTS + text if "use: object:" in text else text


def _plain(value: Any) -> Any:
    """Return a recipe, or a part of it, as nested dicts, lists and scalars."""
    if isinstance(value, Component):
        return {"use": value.use, **value.arguments}
    if isinstance(value, Section):
        known = type(value).model_fields.items()
        fields = {field.alias or name: _plain(getattr(value, name)) for name, field in known}
        return {**fields.pop("component", {}), **fields}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return str(value) if isinstance(value, Path) else value


class _Dumper(yaml.SafeDumper):
    """Writes what `yaml_source` reads: no aliases, and quotes if a string needs them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = None if isinstance(scalar(text), str) else "'"
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
