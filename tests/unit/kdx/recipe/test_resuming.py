"""What the keys of a recipe mean for a resume."""

from typing import Annotated

import pytest
from pydantic import BaseModel

from kdx.recipe.resuming import ABSENT, MAY_DIFFER, Resume, flat, resume_rule
from kdx.recipe.schema import Recipe
from kdx.run.resume import Changes, compare, compare_recipes

MAY = {
    "name", "processes", "threads", "compile", "channels_last", "tolerance.float32",
    "tolerance.float64", "select", "log_every", "diagnose", "evaluate_every", "checkpoint_every",
    "keep_checkpoints", "skip_bad_steps", "train_metrics", "data.root", "data.workers",
    "teacher.weights", "teacher.recipe", "teacher.allow_chance", "teacher.memo.limit",
    "teacher.memo.directory", "trackers.0.use",
}  # fmt: skip
EVERYTHING = (
    "data={use: image_folder, root: images, batch_size: 4, augment: {crop: 2}, workers: 1}",
    "teacher={use: smallnet, weights: a, memo: {views: 2, top: 3}, input: {size: 8}}",
    "student={use: smallnet, kernel_size: 3, transforms: [{use: expand.ExpandNet, rate: 2}]}",
    "losses=[{use: kd, temperature: 4}]",
    "stages=[{phase: nonlinear, losses: [{use: kd}], optimizer: {use: Adam, lr: 1}}]",
)


def keys(recipe):
    """Return every dotted key that a recipe with something of everything has."""
    return flat(recipe(*EVERYTHING).plain())


def test_every_key_is_covered(recipe):
    found = keys(recipe)
    assert {key for key in found if resume_rule(key, Recipe).may_differ} == MAY
    sections = {key.partition(".")[0] for key in found}
    assert sections == set(Recipe.model_fields)


def test_keys_that_were_added_later_have_the_value_from_before(recipe):
    found = {key: resume_rule(key, Recipe) for key in keys(recipe)}
    added = {key: rule.absent for key, rule in found.items() if rule.absent is not ABSENT}
    assert added == {
        "data.mixup": 0.0,
        "data.cutmix": 0.0,
        "data.repeats": 1,
        "data.sampling": "shuffled",
        "data.label_noise": 0.0,
        "teacher.precision": None,
        "train_metrics": False,
        "teachers": {},
        "diagnose": 0,
        "average": None,
        "trackers.0.use": "tensorboard",
        "losses.0.until": None,
        "losses.0.teacher": None,
        "stages.0.losses.0.until": None,
        "stages.0.losses.0.teacher": None,
        "optimizer.layer_decay": None,
        "optimizer.factor_lr": 1.0,
        "optimizer.decay": "factors",
        "stages.0.optimizer.layer_decay": None,
        "stages.0.optimizer.factor_lr": 1.0,
        "stages.0.optimizer.decay": "factors",
        "patience": None,
    }
    assert all(found[key].since for key in added)


class Inner(BaseModel):
    free: Annotated[int, MAY_DIFFER] = 0
    new: int = 0


class Outer(BaseModel):
    one: Inner
    many: list[Inner] | None = None
    all_free: Annotated[Inner, MAY_DIFFER]
    new: int = 0


@pytest.mark.parametrize("key", ["new", "one.new", "many.1.new", "one", "many", "one.argument",
                                 "unknown", "unknown.more"])  # fmt: skip
def test_a_key_without_metadata_must_be_equal(key):
    assert resume_rule(key, Outer) == Resume()


@pytest.mark.parametrize("key", ["one.free", "many.0.free", "all_free", "all_free.new"])
def test_metadata_holds_for_a_key_and_what_is_nested_in_it(key):
    assert resume_rule(key, Outer).may_differ


def test_a_key_may_be_compared_all_the_same():
    before, now = {"select": "last", "clip": None}, {"select": "best", "clip": None}
    assert compare_recipes(before, now).refused == []
    assert compare_recipes(before, now, equal={"select"}) == Changes(
        ['select: "last", now "best"'], []
    )


def test_which_layers_an_expansion_takes_may_be_said_later():
    """The tensors of the student are compared, too: see `kdx.run.resume.compare`."""
    assert resume_rule("student.transforms.0.pointwise", Recipe).may_differ
    assert not resume_rule("student.transforms.0.rate", Recipe).may_differ
    assert not resume_rule("student.transforms", Recipe).may_differ


def test_a_run_that_expanded_more_is_told_how_to_go_on():
    shapes = {"conv.factors.0.weight": [1]}
    told = "input", "classes", "steps an epoch", "precision", "teacher", "processes", "device"
    about = dict.fromkeys((*told, "threads", "torch"))
    now = {"recipe": {}, "data": {}, "student": {}, **about}
    (first, second) = compare({"student": shapes, **about}, now).refused
    assert first == "student: conv.factors.0.weight was [1], now absent"
    assert second.endswith("for such a run set student.transforms.0.pointwise=expand")
