"""A component's arguments, what is said of them, and what components build."""

import json
from pathlib import Path

import pytest
from torch import nn

from kdx.commands.schema import schema_of
from kdx.losses import BCE, CRD
from kdx.losses.cross_entropy import CrossEntropy
from kdx.recipe import Component, RecipeError, load
from kdx.recipe.arguments import OF_RUN, check


def test_what_a_factory_cannot_be_given_is_said_at_once(plugin):
    positional = dict(check(plugin.Positional, "network", {}))
    assert positional == {"a": "is a positional-only parameter, which a recipe cannot set"}
    reserved = dict(check(plugin.Reserved, "loss", {}, reserved={"weight"}))
    assert "kdx uses this key itself: rename the parameter" in reserved["weight"]


def test_what_kdx_provides_need_not_be_given(plugin):
    assert list(check(plugin.Net, "network", {})) == []
    assert list(check(plugin.Net, "dataset", {})) == [
        ("in_channels", "is missing"),
        ("image_size", "is missing"),
    ]


def test_what_the_run_gives_to_a_loss_is_no_argument_of_a_recipe():
    wrong = dict(check(CRD, "loss", {"train_images": 3, "teacher_network": None, "run_seed": 1}))
    assert set(dict(check(BCE, "loss", {"label_shares": [0.5]}))) == {"label_shares"}
    wrong |= dict(check(CrossEntropy, "loss", {"class_counts": [3, 4]}))
    assert set(wrong) == OF_RUN - {"student_network", "label_shares"}
    assert wrong["train_images"].startswith("unknown argument")
    assert list(check(CRD, "loss", {"dim": 3})) == []
    of_losses = json.dumps(schema_of("recipe")["$defs"]["LossTerm"])
    assert '"negatives"' in of_losses
    assert not any(f'"{name}"' in of_losses for name in OF_RUN)


def test_annotations_that_cannot_be_checked_are_left_to_the_factory(plugin):
    assert list(check(plugin.CrossEntropy, "loss", {"table": 3})) == []
    assert list(check(plugin.Vague, "loss", {"temperature": "any", "mode": "any"})) == []


@pytest.fixture
def build(plugin):
    def build(use: str, kind: str = "network", provided: dict | None = None, **arguments):
        factory = getattr(plugin, use)
        component = Component(kind, use, arguments, factory, "x.yaml:7", "student")
        return component.build(**provided or {})

    return build


def test_a_factory_gets_what_its_signature_names_and_the_recipe_leaves_open(build):
    given = {"num_classes": 3, "in_channels": 1, "image_size": 8, "seed": 0}
    assert build("Net", provided=given, width=2).size == (2, 3, 1, 8)
    assert build("Net", provided=given, num_classes=5).size == (4, 5, 1, 8)


def test_a_factory_that_takes_any_keyword_gets_none_that_it_does_not_name(build):
    assert isinstance(build("anything", provided={"num_classes": 10}), nn.Identity)
    with pytest.raises(RecipeError, match=r"it returned a dict, not an nn.Module"):
        build("anything", width=3)


def test_values_reach_the_factory_as_it_annotates_them(build):
    net = build("net", shape=[3, 4], path="a/b", provided={"num_classes": 2})
    assert net.given == (4, (3, 4), Path("a/b"))


def test_each_build_gets_values_of_its_own(build):
    options = {"a": [1]}
    with pytest.raises(RecipeError, match="returned a dict"):
        build("anything", options=options)
    build_schedule = build("multistep", "schedule", milestones=[1])
    assert build_schedule(0.5) == 0.1


@pytest.mark.parametrize(
    ("use", "kind", "arguments", "message"),
    [
        ("Picky", "network", {"width": 3}, "'Picky': width: 3 is odd"),
        (
            "Picky",
            "network",
            {},
            "'Picky': missing argument 'width', which the data set's task",
        ),
        ("text", "network", {}, "'text': it returned a str, not an nn.Module"),
        (
            "text",
            "dataset",
            {},
            "'text': it returned a str, not a kdx.protocols.ImageData",
        ),
        ("text", "loss", {}, "'text': it returned a str, not a callable"),
        (
            "blur",
            "transform",
            {"rate": 0},
            "'blur': it returned an object, not an object with apply",
        ),
    ],
)
def test_what_a_factory_refuses_or_returns_is_reported_at_its_place(
    build, use, kind, arguments, message
):
    with pytest.raises(RecipeError, match=rf"^x.yaml:7: student: {message}"):
        build(use, kind, **arguments)


def test_a_recipe_builds_its_parts(write):
    text = "data: {use: digits, channels: 3}\nstudent: {use: smallnet, weights: a, width: 2}\n"
    recipe = load(write(text))
    assert recipe.data.component.build().input.channels == 3
    student = recipe.student.component.build(num_classes=2, in_channels=3)
    optimizer = recipe.optimizer.component.build(params=student.parameters())
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert recipe.schedule.build()(0.5) == 1.0


def test_an_optimizer_that_refuses_its_arguments_is_reported(write):
    recipe = load(write(), ["optimizer={use: SGD, lr: 1, nesterov: true}"])
    message = r"^override 'optimizer=.*': optimizer: 'SGD': Nesterov momentum requires"
    with pytest.raises(RecipeError, match=message):
        recipe.optimizer.component.build(params=nn.Linear(1, 1).parameters())


def test_what_a_component_refuses_names_the_override_that_set_an_argument(write):
    text = "data: {use: digits}\nstudent: {use: smallnet}\noptimizer: {use: SGD, lr: 1}\n"
    recipe = load(write(text), ["optimizer.nesterov=true"])
    place = r"^override 'optimizer.nesterov=true' of .*plain.yaml:3: optimizer: 'SGD': Nesterov"
    with pytest.raises(RecipeError, match=place):
        recipe.optimizer.component.build(params=nn.Linear(1, 1).parameters())
