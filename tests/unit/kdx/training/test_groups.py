"""Parameter groups: their steps against optimizers built by hand, and the names that they go by."""

import pytest
import timm.optim
import torch
import torch.nn.functional as F
from timm.optim import create_optimizer_v2
from torch import nn
from torchvision.models import VisionTransformer, resnet18

from kdx.recipe import RecipeError
from kdx.recipe.registry import resolve, timm_optimizers
from kdx.training.groups import compact_name, group, layers_of, norm_parameters
from kdx.training.job import build
from kdx.training.optimizers import build_optimizer, stage_optimizer
from tests.unit.kdx.training.stepped import assert_same, one_step

EXPAND = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"


def test_norms_of_branches_are_norms_beside_the_weight_that_they_count_as(recipe):
    _, after, runner, _ = one_step(
        recipe,
        "student.transforms=[{use: expand.DBB, select: conv1}]",
        "optimizer={use: SGD, lr: 0.01, weight_decay: 0.5, no_decay: [norm]}",
    )
    free = {
        id(p)
        for group in runner.optimizer.param_groups
        for p in group["params"]
        if group["weight_decay"] == 0
    }
    found = {name for name, p in after.conv1.named_parameters() if id(p) in free}
    norms = [name for name, _ in after.conv1.named_parameters() if "norm." in name]
    assert found == {*norms}
    assert len(norms) == 12  # of origin, 1x1, 1x1-kxk (2) and 1x1-average (2): weight and bias


def test_a_step_is_that_of_an_optimizer_built_by_hand(recipe):
    before, after, _, (images, targets, _) = one_step(
        recipe,
        "optimizer={use: AdamW, lr: 0.01, weight_decay: 0.5, no_decay: [norm, bias, conv2.weight], "
        "groups: [{match: 'fc*', lr: 0.1}, {match: fc1.*, lr: 0.2, weight_decay: 0.3}]}",
    )
    groups = [
        {"params": [before.conv1.weight, before.conv3.weight]},
        {"params": [*before.bn1.parameters(), *before.bn2.parameters(), *before.bn3.parameters(),
                    before.conv1.bias, before.conv2.bias, before.conv3.bias, before.conv2.weight],
         "weight_decay": 0},
        {"params": [before.fc2.weight], "lr": 0.1},
        {"params": [before.fc2.bias], "lr": 0.1, "weight_decay": 0},
        {"params": [*before.fc1.parameters()], "lr": 0.2, "weight_decay": 0.3},
    ]  # fmt: skip
    by_hand = torch.optim.AdamW(groups, lr=0.01, weight_decay=0.5)
    before.train()
    F.cross_entropy(before(images), targets).backward()
    by_hand.step()
    assert_same(before, after, atol=1e-6)


def test_layer_decay_scales_the_rate_of_each_layer_but_not_of_groups(recipe):
    *_, runner, _ = one_step(
        recipe, "optimizer={use: SGD, lr: 0.8, layer_decay: 0.5, groups: [{match: conv1.*, lr: 3}]}"
    )
    rates = {id(p): group["lr"] for group in runner.optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(p)] for name, p in runner.objective.student.named_parameters()}
    last = {"conv1": 3, "bn1": 0.05, "conv2": 0.1, "bn2": 0.1, "conv3": 0.2, "bn3": 0.2,
            "fc1": 0.4, "fc2": 0.8}  # fmt: skip
    assert found == pytest.approx({name: last[name.partition(".")[0]] for name in found})
    assert runner.rate == 0.8  # what the log has
    assert runner._set_rate(0, 4) == 0.8


def test_layer_decay_equals_timms_for_its_networks():
    network = timm.create_model("resnet18", num_classes=10)
    groups = timm.optim.param_groups_layer_decay(network, layer_decay=0.75)
    names = {id(p): name for name, p in network.named_parameters()}
    scales = {names[id(p)]: each["lr_scale"] for each in groups for p in each["params"]}
    layers = layers_of(network)
    last = max(layers.values())
    assert {name: 0.75 ** (last - layer) for name, layer in layers.items()} == scales


def test_the_layers_of_other_networks_are_modules_and_blocks():
    layers = layers_of(resnet18())
    assert [layers[f"{name}.weight"] for name in ("conv1", "bn1", "layer1.0.conv1",
            "layer1.0.bn2", "layer1.1.conv2", "layer2.0.downsample.1", "layer4.1.conv1", "fc")] \
        == [0, 0, 1, 1, 2, 3, 8, 9]  # fmt: skip
    vit = layers_of(VisionTransformer(8, 2, 3, 2, 8, 16, num_classes=2))
    blocks = [f"encoder.layers.encoder_layer_{n}.ln_1" for n in (0, 2)]
    names = ("conv_proj", *blocks, "heads.head")
    assert [vit[f"{name}.weight"] for name in names] == [0, 1, 3, 4]
    assert (vit["class_token"], vit["encoder.pos_embedding"]) == (0, 1)
    behind = layers_of(nn.ModuleDict({"backbone": resnet18(), "head": nn.Linear(1000, 2)}))
    assert max(behind.values()) == 10
    with pytest.raises(ValueError, match="Linear has one layer only: remove layer_decay"):
        layers_of(nn.Linear(2, 2))


def test_the_names_of_factors_are_those_of_their_layers(recipe):
    job = build(recipe(EXPAND))
    known = dict(job.compact.named_parameters())
    named = {name: compact_name(name, known) for name, _ in job.student.named_parameters()}
    assert set(named.values()) == set(known)
    assert named["conv1.factors.1.weight"] == "conv1.weight"
    assert named["fc1.factors.2.bias"] == "fc1.bias"
    assert compact_name("factors.0.weight", ["weight"]) == "weight"
    assert compact_name("attn.qkv.factors.0.weight", ["attn.weight", "attn.qkv.weight"]) == (
        "attn.qkv.weight"
    )
    assert compact_name("extra.scale", known) == "extra.scale"


def test_groups_of_an_expanded_student_are_those_of_the_compact_one(recipe):
    said = (
        "optimizer={use: SGD, lr: 1, weight_decay: 0.5, no_decay: [bias], layer_decay: 0.9, "
        "groups: [{match: conv1.weight, lr: 7}]}"
    )
    settings = []
    for more in ([], [EXPAND]):
        job = build(recipe(said, *more))
        known = dict(job.compact.named_parameters())
        optimizer, _ = stage_optimizer(
            job.stages[0].stage.optimizer, job.stages[0].objective, job.compact
        )
        names = {id(p): compact_name(name, known) for name, p in job.student.named_parameters()}
        settings.append({
            (names[id(p)], group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for p in group["params"]
        })  # fmt: skip
    assert settings[0] == settings[1]
    assert ("conv1.weight", 7, 0.5) in settings[0]
    assert any(lr != 1 for _, lr, _ in settings[0] - {("conv1.weight", 7, 0.5)})


def test_adaptors_are_a_group_of_their_own(recipe):
    job = build(recipe(
        "teacher={use: smallnet, allow_chance: true}",
        "losses=[{use: cross_entropy}, {use: hint, student_layer: fc1, teacher_layer: fc2}]",
        "optimizer={use: SGD, lr: 1, weight_decay: 0.5, no_decay: ['*']}",
    ))  # fmt: skip
    objective = job.stages[0].objective
    section = job.stages[0].stage.optimizer
    student, adaptors = group(section, objective, job.compact)
    assert student.values == {"weight_decay": 0.0}
    assert [id(p) for p in student.parameters] == [id(p) for p in job.student.parameters()]
    assert (adaptors.values, adaptors.scale) == ({}, 1)
    assert [id(p) for p in adaptors.parameters] == [id(p) for p in objective.adaptors.parameters()]


def test_normalisation_is_known_by_its_class():
    class OwnNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    class NormedConv(nn.Conv2d):
        pass

    network = nn.Sequential(nn.LayerNorm([2, 2, 2]), nn.GroupNorm(1, 2), OwnNorm(),
                            NormedConv(1, 1, 1), nn.Linear(1, 1), nn.InstanceNorm1d(2))  # fmt: skip
    assert norm_parameters(network) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.scale"}


def test_patterns_that_match_nothing_are_reported_together(recipe):
    said = (
        "optimizer={use: SGD, lr: 1, no_decay: [norms], "
        "groups: [{match: 'conv*', lr: 2}, {match: convl.*, lr: 3}]}"
    )
    with pytest.raises(RecipeError, match="matches no trained parameter") as raised:
        build(recipe(said))
    first, second = raised.value.problems
    assert (first.where, second.where) == ("optimizer.no_decay[0]", "optimizer.groups[1].match")
    assert first.message.startswith(
        "'norms' matches no trained parameter of the student. Did you mean 'norm'? Known: bias, bn1"
    )
    assert "Known: bn1.bias, " in second.message


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ("{use: Rprop, lr: 1, no_decay: [bias]}", "'Rprop': it has no weight_decay to set in "),
        ("{use: SGD, lr: 1, weight_decay: 0.1, decay: product}", "'SGD': decay: 'product' needs a"),
    ],
)
def test_what_the_optimizer_or_the_student_lacks_is_refused(recipe, said, wrong):
    with pytest.raises(RecipeError, match=wrong):
        build(recipe(f"optimizer={said}"))
    with pytest.raises(RecipeError, match="decay: 'product' needs a weight_decay"):
        build(recipe(EXPAND, "optimizer={use: SGD, lr: 1, decay: product}"))


def test_problems_of_the_section_are_reported_together(recipe):
    said = "optimizer={use: SGD, lr: 1, groups: [{match: a}], layer_decay: 2, decay: sum}"
    with pytest.raises(RecipeError, match="sets nothing: give lr, weight_decay or both") as raised:
        recipe(said, "patience=2", "clip={by: norm, at: 0}")
    assert [problem.where for problem in raised.value.problems] == [
        "patience", "optimizer.groups[0]", "optimizer.layer_decay", "optimizer.decay", "clip.at",
    ]  # fmt: skip


def test_timms_optimizers_are_named_with_its_defaults(recipe):
    component = recipe("optimizer={use: timm.lamb, lr: 0.1, eps: 0.5}").optimizer.component
    built = build_optimizer(component, [nn.Parameter(torch.zeros(2))])
    assert type(built) is timm.optim.Lamb
    assert (built.defaults["lr"], built.defaults["eps"]) == (0.1, 0.5)
    small = [nn.Parameter(torch.zeros(2))]
    for name, given in (("sgd", 0.9), ("momentum", 0.9), ("sgd, momentum: 0.5", 0.5)):
        part = recipe(f"optimizer={{use: timm.{name}, lr: 0.1}}").optimizer.component
        made = build_optimizer(part, small)
        assert type(made) is torch.optim.SGD
        assert (made.defaults["nesterov"], made.defaults["momentum"]) == (name != "momentum", given)
    for name in ("sgd", "momentum", "rmsprop", "rmsproptf", "sgdw", "lars", "madgrad"):
        ours = timm_optimizers()[f"timm.{name}"](small, lr=0.1)
        assert ours.defaults == create_optimizer_v2(small, name, lr=0.1).defaults
    assert not {"timm.kron", "timm.adahessian", "timm.fusedlamb"} & timm_optimizers().keys()


def test_what_timm_does_not_have_is_refused(recipe):
    with pytest.raises(ValueError, match=r"'timm.lambb' is not an optimizer. Did you mean 'timm."):
        resolve("timm.lambb", "optimizer", ())
    with pytest.raises(ValueError, match=r"'timm.lamb' is outside the modules"):
        resolve("timm.lamb", "schedule", ("kdx",))
    with pytest.raises(RecipeError, match="'x' is not a number") as raised:
        recipe("optimizer={use: timm.lamb, lr: 0.1, eps: x, momentum: 1}")
    assert [p.where for p in raised.value.problems] == ["optimizer.eps", "optimizer.momentum"]


def test_problems_of_all_stages_come_together(recipe):
    bad = "{use: SGD, lr: 1, weight_decay: 0.1, no_decay: [%s]}"
    stages = ", ".join(f"{{epochs: 1, optimizer: {bad % name}}}" for name in ("norms", "biases"))
    own = "losses: [{use: cross_entropy, class_weights: [-1]}, {use: kd, temperature: -1}]"
    given = recipe(
        f"stages=[{stages}, {{epochs: 1, {own}}}, {{epochs: 1}}]", f"optimizer={bad % 'b'}"
    )
    with pytest.raises(RecipeError) as raised:
        build(given)
    assert [problem.where for problem in raised.value.problems] == [
        "stages[0].optimizer.no_decay[0]", "stages[1].optimizer.no_decay[0]",
        "stages[2].losses[0]", "stages[2].losses[1]", "optimizer.no_decay[0]",
    ]  # fmt: skip
