"""Built-in arms: what they change in a recipe.

Names follow the rows of the ExpandNets paper: a student, then `init` and `kd`.
`cl+fc+init+kd` is ExpandNet-CL+FC+Init with a teacher.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kdx.recipe import Recipe
from kdx.recipe.wording import show, unknown

__all__ = ["BUILT_IN", "arm_overrides", "written"]

_STRATEGIES: Mapping[str, Mapping[str, Any]] = {
    "expandnet": {},
    "fc": {"conv": "none", "linear": True},
    "cl": {"conv": "cl", "linear": False},
    "cl+fc": {"conv": "cl", "linear": True},
    "ck": {"conv": "ck", "linear": False},
    "ck+fc": {"conv": "ck", "linear": True},
}
"""The arguments that a student's first transform gets; `expandnet` leaves the recipe's."""

BUILT_IN = (
    "compact",
    "compact+kd",
    *(f"{name}{init}{kd}" for name in _STRATEGIES for init in ("", "+init") for kd in ("", "+kd")),
)

_FIRST = "student.transforms.0"


def arm_overrides(
    arm: str, recipe: Recipe, losses_without_teacher: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the overrides that make a built-in arm of a recipe with teacher and transforms.

    Without `kd` the teacher is removed and the losses are `losses_without_teacher`. `init` trains
    every stage twice, the nonlinear counterpart first. ValueError for an unknown arm, and for one
    that needs what the recipe does not have.
    """
    if arm not in BUILT_IN:
        raise ValueError(f"{show(arm)} is not a built-in arm.{unknown(arm, BUILT_IN)}")
    student = arm.removesuffix("+kd").removesuffix("+init")
    has_teacher, initialised = arm.endswith("+kd"), "+init" in arm
    stages = recipe.plain()["stages"]
    if student != "compact" and not recipe.student.transforms:
        raise ValueError("the recipe's student has no transforms, which this arm needs")
    if has_teacher and not recipe.all_teachers:
        raise ValueError("the recipe has no teacher, which this arm needs")
    if any(stage["phase"] for stage in stages):
        raise ValueError(
            "the recipe's stages already set `phase`: use a recipe without, since `+init` sets it"
        )
    changes: dict[str, Any] = {}
    if student == "compact":
        changes["student.transforms"] = []
    for key, value in _STRATEGIES.get(student, {}).items():
        changes[f"{_FIRST}.{key}"] = value
    if not has_teacher:
        changes |= {"teacher": None, "teachers": {}, "losses": list(losses_without_teacher)}
        stages = []
    if initialised:
        stages = [
            _named(stage, phase) for phase in ("nonlinear", "linear") for stage in stages or [{}]
        ]
    changes["stages"] = [  # what each stage sets itself
        {key: value for key, value in stage.items() if value is not None} for stage in stages
    ]
    return written(changes)


def written(changes: Mapping[str, Any]) -> list[str]:
    """Return changes by dotted key as the overrides `key=value` that make them."""
    return [f"{key}={json.dumps(value)}" for key, value in changes.items()]


def _named(stage: Mapping[str, Any], phase: str) -> dict[str, Any]:
    name = f"{phase}.{stage['name']}" if stage.get("name") else phase
    return {**stage, "phase": phase, "name": name}
