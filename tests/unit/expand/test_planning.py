import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import expand
from tests.unit.expand.networks import SmallNet, parameters

# ExpandNets paper, Table 13 and its text: exact counts.
COUNTS = [
    (7, "cl", False, 547_102),
    (7, "cl", True, 2_105_886),
    (7, "ck", False, 186_982),
    (7, "ck", True, 1_745_766),
    (3, None, True, 220_618),
    (3, "cl", False, 109_086),
    (3, "cl", True, 314_654),
]


@pytest.mark.parametrize(("kernel", "conv", "linear", "count"), COUNTS)
def test_the_papers_counts(kernel, conv, linear, count):
    model = SmallNet(kernel)
    planned = expand.plan(model, conv, linear=linear)
    assert planned.parameters == (parameters(model), count)
    assert parameters(expand.expand(model, conv, linear=linear)) == count


def chain_of(layer: nn.Module, conv: str, **options) -> list[tuple[int, int, tuple[int, ...], int]]:
    (row,) = expand.plan(layer, conv, **options).rows
    return [(f.inputs, f.outputs, f.kernel, f.groups) for f in row.factors]


def test_ck_uses_each_dimension_up():
    assert chain_of(nn.Conv2d(2, 3, (5, 9)), "ck", rate=2) == [
        (2, 4, (3, 3), 1), (4, 6, (3, 3), 1), (6, 6, (1, 3), 1), (6, 3, (1, 3), 1)]  # fmt: skip
    assert chain_of(nn.Conv2d(2, 3, (1, 7)), "ck", rate=2) == [
        (2, 4, (1, 3), 1), (4, 6, (1, 3), 1), (6, 3, (1, 3), 1)]  # fmt: skip


def test_depthwise_keeps_its_groups():
    assert chain_of(nn.Conv2d(6, 6, 3, groups=6), "cl") == [
        (6, 24, (1, 1), 6), (24, 24, (3, 3), 6), (24, 6, (1, 1), 6)]  # fmt: skip


def test_stem_and_classifier_conventions():
    model = SmallNet(3)
    kept, free = (expand.plan(model, "cl", linear=True, stem=s, classifier=s2)
                  for s, s2 in (("keep", "keep"), ("expand", "expand")))  # fmt: skip
    assert [f.outputs for f in kept.rows[0].factors] == [3, 32, 8]
    assert [f.outputs for f in free.rows[0].factors] == [12, 32, 8]
    assert (kept.rows[-1].strategy, free.rows[-1].strategy) == (None, "fc")


def test_auto_takes_ck_above_3():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 5), nn.Conv2d(4, 4, 4))
    assert [row.strategy for row in expand.plan(model)] == ["cl", "ck", "cl"]


def test_select_exclude_and_overrides():
    model = SmallNet(7)
    planned = expand.plan(model, "ck", select="features.*", exclude=["features.4"],
                          overrides={"features.8": {"conv": "cl", "rate": 2}})  # fmt: skip
    rows = {row.path: row for row in planned}
    assert rows["features.0"].strategy == "ck"
    assert (rows["features.4"].strategy, rows["features.4"].reason) == (None, "excluded")
    assert [f.outputs for f in rows["features.8"].factors] == [32, 64, 32]
    assert rows["fc1"].reason == "not selected"


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_layers_left_alone_have_a_reason():
    tied = nn.Linear(4, 4)
    other = nn.Linear(4, 4)
    other.weight = tied.weight
    model = nn.ModuleDict({
        "transposed": nn.ConvTranspose2d(3, 3, 2),
        "normed": parametrizations.weight_norm(nn.Conv2d(3, 3, 3)),
        "lazy": nn.LazyLinear(3),
        "tied": tied,
        "other": other,
        "conv": nn.Conv2d(3, 3, 3),
        "fc": nn.Linear(3, 3),
    })  # fmt: skip
    reasons = {row.path: row.reason for row in expand.plan(model, "cl", linear=True)}
    assert reasons["transposed"] == "ConvTranspose2d is not supported"
    assert reasons["normed"] == "its weight is parametrised"
    assert reasons["lazy"] == "LazyLinear is not supported"
    assert reasons["tied"] == reasons["other"] == "its weight is shared with another layer"
    assert reasons["conv"] == ""
    assert reasons["fc"].startswith("the classifier is kept")


def test_an_expanded_network_is_not_expanded_again():
    expanded = expand.expand(SmallNet(7), "ck")
    assert {row.reason for row in expand.plan(expanded, "ck")} >= {"already expanded"}
    with pytest.raises(ValueError, match="no layer of SmallNet is expanded"):
        expand.expand(expanded, "ck")


def test_the_table_names_every_layer_and_the_networks_totals():
    text = str(expand.plan(SmallNet(7), "ck", linear=True))
    assert "3 -[3x3]- 3 -[3x3]- 32 -[3x3]- 8" in text
    assert text.splitlines()[-1].split() == ["total", "66,186", "1,745,766"]


def test_planning_leaves_the_model_and_the_random_state_alone():
    model = SmallNet(3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.get_rng_state()
    expand.plan(model, "cl", linear=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"conv": "cx"}, "conv: 'cx' is not one of cl, ck, auto, none"),
        ({"rate": 0}, "rate: 0 must be above 0 and at most 64"),
        ({"rate": 1e7}, "rate: 10000000.0 must be above 0 and at most 64"),
        ({"rate": float("inf")}, "rate: inf must be above 0 and at most 64"),
        ({"rate": float("nan")}, "rate: nan must be above 0 and at most 64"),
        ({"rate": True}, "rate: True is not a number"),
        ({"linear": "no"}, "linear: 'no' is not one of True, False"),
        ({"linear": 1}, "linear: 1 is not one of True, False"),
        ({"stride": "first"}, "stride: 'first' is not one of middle, last"),
        ({"stem": "widen"}, "stem: 'widen' is not one of keep, expand"),
        ({"classifier": "no"}, "classifier: 'no' is not one of keep, expand"),
        ({"depthwise": "x"}, "depthwise: 'x' is not one of grouped, channelwise"),
        (
            {"select": "feature.0"},
            r"'feature.0' matches no layer. Nearest of 5: features.0",
        ),
        ({"overrides": {"fc1": {"rat": 2}}}, r"overrides\['fc1'\]: 'rat' is not one of conv"),
        ({"overrides": {"fc1": 3}}, r"overrides\['fc1'\]: 3 is not a mapping of conv, linear"),
        ({"overrides": {"fc1": {"rate": "fast"}}}, r"\['fc1'\]: rate: 'fast' is not a number"),
        ({"overrides": {"fc*": {"rate": 1e7}}}, r"\['fc\*'\]: rate: 10000000.0 must be above 0"),
        ({"overrides": {"fc1": {"linear": "no"}}}, r"\['fc1'\]: linear: 'no' is not one of True"),
        ({"overrides": {"fc1": {"keep_input": 0}}}, r"\['fc1'\]: keep_input: 0 is not one of"),
        ({"overrides": {"fc1": {"conv": []}}}, r"\['fc1'\]: conv: \[\] is not one of cl, ck"),
    ],
)
def test_unknown_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        expand.plan(SmallNet(3), **options)
