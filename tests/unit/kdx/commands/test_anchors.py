import re

import pytest
import torch
import yaml

from kdx.commands.anchors import propose
from kdx.commands.main import main
from kdx.detection import cluster, mean_best_iou
from kdx.recipe import load
from tests.unit.kdx.data.sets.test_voc import add
from tests.unit.kdx.data.sets.test_voc_xml import thing

BOXES = [(1, 1, 5, 9), (1, 1, 6, 9), (1, 1, 20, 10), (1, 1, 21, 10), (1, 1, 40, 30)]  # of 40 x 30


@pytest.fixture
def recipe(tmp_path):
    for i, box in enumerate(BOXES):
        add(tmp_path, "2007_train", f"train{i}", thing(box), thing((1, 1, 2, 29), difficult=1))
    add(tmp_path, "2007_test", "test", thing(BOXES[0]))
    path = tmp_path / "recipe.yaml"
    path.write_text(
        f"data: {{use: voc, root: '{tmp_path}', size: 160, train: 2007_train, test: 2007_test}}\n"
        "student: {use: yolo_lite}\nlosses: [{use: yolo}]\n"
    )
    return path


def test_anchors_fit_the_boxes_as_a_network_sees_them(recipe):
    """An image of 40 x 30 is enlarged four times, and a cell is 32 pixels: eight of its own."""
    proposal = propose(load(recipe, ["data.anchors=[[1, 1]]"]), k=3)
    sizes = torch.tensor([[x2 - x1 + 1.0, y2 - y1 + 1] for x1, y1, x2, y2 in BOXES]) / 8
    torch.testing.assert_close(proposal.anchors, cluster(sizes, 3), rtol=1e-5, atol=0)
    assert proposal.boxes == 5
    assert proposal.fit == pytest.approx(mean_best_iou(sizes, proposal.anchors), abs=1e-5)
    assert proposal.present == pytest.approx(mean_best_iou(sizes, torch.ones(1, 2)), abs=1e-5)
    wide = propose(load(recipe, ["data.size=[120, 320]"]), k=3, stride=16)
    torch.testing.assert_close(wide.anchors, 2 * proposal.anchors, rtol=1e-5, atol=0)


def test_the_command_prints_a_line_for_the_recipe(recipe, capsys):
    assert main(["anchors", str(recipe), "--k", "2", "data.workers=0"]) == 0
    printed = capsys.readouterr().out
    assert len(yaml.safe_load(printed)["anchors"]) == 2
    fits = r"# mean best IoU with 5 boxes: 0\.\d{3}, of the recipe's 5 anchors: 0\.\d{3}\n"
    assert re.fullmatch(rf"anchors: \[\[.*\]\]\n{fits}", printed)


def test_refusals(recipe, tmp_path):
    with pytest.raises(ValueError, match="k: 9 anchors, but the boxes have 5 different sizes"):
        propose(load(recipe), k=9)
    other = tmp_path / "digits.yaml"
    other.write_text("data: {use: digits, limit: 8}\nstudent: {use: smallnet}\n")
    with pytest.raises(ValueError, match=r"data.use: 'digits' has no boxes to fit anchors to"):
        propose(load(other))
