"""Everything that a recipe may say, with its types and defaults.

A section with a `component` has a `use:` in the recipe, and any further keys there are its
arguments; `binding.py` gathers them before the schema sees them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    PlainValidator,
    PrivateAttr,
    Strict,
    StrictBool,
    StrictStr,
    ValidationInfo,
    model_validator,
)

from kdx.recipe.component import Component
from kdx.recipe.names import name_stages, name_terms
from kdx.recipe.paths import Locations
from kdx.recipe.wording import show
from kdx.recipe.writing import to_yaml

__all__ = [
    "Augment",
    "Data",
    "InputOverride",
    "LossTerm",
    "Recipe",
    "Stage",
    "StageSection",
    "Student",
    "Teacher",
    "Tolerance",
]

_SECTION = ConfigDict(extra="forbid", frozen=True)


def _locations(info: ValidationInfo) -> Locations:
    assert isinstance(info.context, Locations), "a recipe comes from `load`"
    return info.context


def _weights(value: str, info: ValidationInfo) -> str:
    return _locations(info).weights(value)


def _recipe(value: Path, info: ValidationInfo) -> Path:
    return _locations(info).recipe(value)


def _name(value: str, info: ValidationInfo) -> str:
    return _locations(info).name(value)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 < value[0] <= value[1] <= 1:
        raise ValueError(f"{show(list(value))} is not [low, high] with 0 < low <= high <= 1")
    return value


def _held_out(value: Any) -> Any:
    share = isinstance(value, float) and 0 < value < 1
    count = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if not (value is None or share or count):
        raise ValueError(f"{show(value)} is neither a share between 0 and 1 nor a count of images")
    return value


Count = Annotated[int, Strict(), Field(ge=1)]
Natural = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
Finite = Annotated[float, Strict(), AllowInfNan(False)]
Positive = Annotated[Finite, Field(gt=0)]
Range = Annotated[tuple[Finite, Finite], AfterValidator(_ordered)]
Name = Annotated[StrictStr, BeforeValidator(lambda value: "" if value is None else value)]
WeightsPath = Annotated[StrictStr, Field(min_length=1), AfterValidator(_weights)]
RecipePath = Annotated[Path, AfterValidator(_recipe)]


class Augment(BaseModel):
    """Random changes to a training image; `crop` is the padding in pixels before a crop."""

    model_config = _SECTION
    crop: Annotated[Natural, Field(le=1024)] = 0
    flip: StrictBool = False
    resized_crop: Range | None = None


class Data(BaseModel):
    """A data set and how it is fed. `batch_size` is global, over all processes.

    `validation` is the share or the number of training images that are held out.
    """

    model_config = _SECTION
    component: InstanceOf[Component]
    batch_size: Count = 128
    augment: Augment = Augment()
    limit: Count | None = None
    validation: Annotated[float | int | None, PlainValidator(_held_out)] = None
    workers: Natural = 0


class InputOverride(BaseModel):
    """How a teacher's images are normalised and sized, where its weights do not say."""

    model_config = _SECTION
    mean: Annotated[list[Finite], Field(min_length=1)] | None = None
    std: Annotated[list[Positive], Field(min_length=1)] | None = None
    size: Count | None = None

    @model_validator(mode="after")
    def _check_lengths(self) -> Self:
        if self.mean and self.std and len(self.mean) != len(self.std):
            lengths = f"{len(self.mean)} means, but {len(self.std)} stds"
            raise ValueError(f"{lengths}: give one of each per channel")
        return self


class Teacher(BaseModel):
    """A frozen network to learn from; `recipe` trains its weights where they are absent."""

    model_config = _SECTION
    component: InstanceOf[Component]
    weights: WeightsPath | None = None
    recipe: RecipePath | None = None
    allow_chance: StrictBool = False
    input: InputOverride | None = None


class Student(BaseModel):
    """The network to train, from `weights` where given, and what holds during training only."""

    model_config = _SECTION
    component: InstanceOf[Component]
    weights: WeightsPath | None = None
    transforms: list[InstanceOf[Component]] = []


class LossTerm(BaseModel):
    """One term of the objective: `weight` times the loss, logged as `name`."""

    model_config = _SECTION
    component: InstanceOf[Component]
    weight: Annotated[Finite, Field(ge=0)] = 1.0
    name: Name = ""


Losses = Annotated[list[LossTerm], Field(min_length=1), AfterValidator(name_terms)]


class StageSection(BaseModel):
    """A stage as written: what it leaves out is the recipe's."""

    model_config = _SECTION
    name: Name = ""
    phase: StrictStr | None = None
    epochs: Count | None = None
    losses: Losses | None = None
    optimizer: InstanceOf[Component] | None = None
    schedule: InstanceOf[Component] | None = None


@dataclass(frozen=True)
class Stage:
    """A stage of training, complete. `phase` is what transforms enter, None to leave them."""

    name: str
    phase: str | None
    epochs: int
    losses: list[LossTerm]
    optimizer: Component
    schedule: Component


class Tolerance(BaseModel):
    """What the compact student may differ by from the trained one, of the largest logit."""

    model_config = _SECTION
    float32: Positive = 1e-4
    float64: Positive = 1e-9


class Recipe(BaseModel):
    """A training run, checked and complete; comes from `load`."""

    model_config = _SECTION
    name: Annotated[Name, AfterValidator(_name)] = Field(default="", validate_default=True)
    seed: Natural = 0
    data: Data
    teacher: Teacher | None = None
    student: Student
    losses: Losses
    optimizer: InstanceOf[Component]
    schedule: InstanceOf[Component]
    epochs: Count = 150
    stages: Annotated[list[StageSection], AfterValidator(name_stages)] = []
    precision: Literal["no", "bf16", "fp16"] | None = None
    threads: Count | None = None
    accumulate: Count = 1
    clip: Positive | None = None
    select: Literal["last", "best"] = "last"
    evaluate_every: Count = 1
    log_every: Count = 50
    tolerance: Tolerance = Tolerance()
    _locations: Locations = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Remember how the recipe was loaded."""
        assert isinstance(context, Locations), "a recipe comes from `load`"
        self._locations = context

    @property
    def run_dir(self) -> Path:
        """The directory of the run, below the output root."""
        return self._locations.output_root / self.name

    def beside(self, path: Path) -> "Recipe":
        """Return another recipe, loaded with this one's plug-ins and output root.

        RecipeError also where it names this one, or one before it, as its teacher's.
        """
        from kdx.recipe.loading import read  # here, because it loads by this schema

        return read(self._locations.beside(path))

    def resolved_stages(self) -> list[Stage]:
        """Return the stages, at least one, with everything filled in from the recipe."""
        return [
            Stage(
                name=stage.name,
                phase=stage.phase,
                epochs=stage.epochs or self.epochs,
                losses=stage.losses or self.losses,
                optimizer=stage.optimizer or self.optimizer,
                schedule=stage.schedule or self.schedule,
            )
            for stage in self.stages or name_stages([StageSection()])
        ]

    def to_yaml(self) -> str:
        """Return the recipe with all defaults and overrides, which `load` reads as the same.

        Without `epochs` where every stage sets its own, as `load` wants it.
        """
        unused = self.stages and all(stage.epochs for stage in self.stages)
        return to_yaml(self, leave_out={"epochs"} if unused else ())
