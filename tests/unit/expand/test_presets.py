"""The paper's plans by name: exact parameter counts of Table 13 on the real networks."""

import pytest
import timm
import torchvision
from torch import nn

import expand
from tests.unit.expand.networks import SmallNet, parameters

COUNTS = [
    ("fc", lambda: SmallNet(3), 15_050, 220_618),
    ("cl", lambda: SmallNet(7), 66_186, 547_102),
    ("cl_fc", lambda: SmallNet(7), 66_186, 2_105_886),
    ("ck", lambda: SmallNet(7), 66_186, 186_982),
    ("ck_fc", lambda: SmallNet(7), 66_186, 1_745_766),
    ("mobilenet_cl", lambda: timm.create_model("mobilenetv1_100"), 4_231_976, 4_958_348),
    ("mobilenet_v2_cl", torchvision.models.mobilenet_v2, 3_504_872, 3_666_108),
    ("mobilenet_v2_cl", lambda: timm.create_model("mobilenetv2_100"), 3_504_872, 3_666_108),
    ("shufflenet_v2_cl", torchvision.models.shufflenet_v2_x0_5, 1_366_792, 1_414_972),
]


@pytest.mark.parametrize(("preset", "network", "compact", "expanded"), COUNTS)
def test_a_preset_gives_the_papers_counts(preset, network, compact, expanded):
    assert expand.plan(network(), preset=preset).parameters == (compact, expanded)


def test_presets_of_named_parts_expand_these_alone():
    """YOLO-LITE's backbone, U-Net's contracting path: the layers that the paper expands."""
    for preset, part in (("yolo_lite_cl", "backbone"), ("unet_cl", "contracting")):
        body = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv2d(16, 32, 3))
        model = nn.ModuleDict({part: body, "head": nn.Conv2d(32, 8, 3)})
        rows = expand.plan(model, preset=preset).rows
        assert [row.strategy for row in rows] == ["cl", "cl", None]
        assert rows[0].factors[0].outputs == 12


def test_options_beside_a_preset_win():
    model = SmallNet(7)
    planned = expand.plan(model, preset="ck_fc", rate=2, exclude="fc1")
    rows = {row.path: row for row in planned}
    assert [f.outputs for f in rows["features.4"].factors] == [16, 32, 16]
    assert rows["fc1"].reason == "excluded"
    assert {row.strategy for row in expand.plan(model, "cl", preset="ck_fc")} == {"cl", "fc", None}


def test_a_preset_expands_and_comes_back():
    model = SmallNet(7)
    expanded = expand.expand(model, preset="cl_fc")
    assert parameters(expanded) == 2_105_886
    assert list(expand.compress(expanded).state_dict()) == list(model.state_dict())


def test_unknown_presets_are_named():
    with pytest.raises(ValueError, match="preset: 'cl-fc' is not one of fc, cl, cl_fc, ck, ck_fc"):
        expand.plan(SmallNet(3), preset="cl-fc")
