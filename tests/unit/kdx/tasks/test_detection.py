from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from kdx.tasks import Detection, detection
from tests.unit.kdx.tasks.measuring_boxes import SIZES, measured, part
from tests.unit.kdx.tasks.worlds import shared

CLASSES, ANCHORS = ["ant", "bee", "cat"], [[1, 1], [2, 2]]
CPU = torch.device("cpu")


@pytest.fixture
def task():
    return Detection(classes=CLASSES, anchors=ANCHORS)


def saying(objects, *, rows=4, columns=4, images=None):
    """Return an output that sees (image, anchor, row, column, class) and nothing else."""
    images = images or 1 + max(each[0] for each in objects)
    output = torch.full((images, 16, rows, columns), -20.0)
    for image, anchor, row, column, kind in objects:
        values = output[image, anchor * 8 : anchor * 8 + 8, row, column]
        values[:] = torch.tensor([0, 0, 0, 0, 3, -20, -20, -20])
        values[5 + kind] = 20
    return output


def cell(row, column, kind, *, size=0.25, difficult=0):
    """Return the object that the first anchor of a cell of a 4 x 4 grid sees."""
    return torch.tensor([kind, (column + 0.5) / 4, (row + 0.5) / 4, size, size, difficult])


def test_what_it_says_of_itself(task):
    assert task.facts == {"num_classes": 3, "anchors": [[1.0, 1.0], [2.0, 2.0]]}
    assert task.metrics == {"map": "mAP (VOC 2007)", "map_coco": "mAP (COCO)"}
    assert task.chance == 0.005
    assert task.spatial
    assert not task.notes
    with pytest.raises(ValueError, match=r"anchors: \[1\] is not a width and a height in cells"):
        Detection(classes=CLASSES, anchors=[[1]])


def test_without_pycocotools_a_note_says_what_is_left_out(monkeypatch):
    for module in ("kdx.tasks.detection", "kdx.detection.metric"):
        monkeypatch.setattr(f"{module}.coco_available", bool)
    task = Detection(classes=CLASSES, anchors=ANCHORS)
    assert list(task.metrics) == ["map"]
    assert list(task.notes) == ["pycocotools is not installed: COCO's mAP is left out"]
    assert set(task.meter(CPU).compute()) == {"map", "map_area"}


def test_its_meter_measures(task):
    meter = task.meter(CPU)
    assert set(meter.compute().values()) == {0}
    meter = task.meter(CPU)
    target = torch.stack([cell(0, 1, 0), cell(2, 2, 1), torch.full((6,), -1)])[None]
    meter.update(saying([(0, 0, 0, 1, 0)]), target)
    meter.update(saying([], images=2), target[:, :0].expand(2, -1, -1))
    meter.update(saying([(0, 0, 2, 2, 1), (0, 0, 3, 3, 0)]), target[:, 1:2])
    measured = meter.compute()
    # bee: the first of two objects is found; ant: its object, before what is none
    assert measured["map"] == pytest.approx((1 + 6 / 11) / 2)
    assert measured["map_area"] == pytest.approx((1 + 1 / 2) / 2)
    assert measured["map_coco"] == pytest.approx((1 + 51 / 101) / 2)
    assert measured["map_coco_50"] == pytest.approx(measured["map_coco"])


def test_two_processes_measure_what_one_does(tmp_path):
    both = shared(part, tmp_path)
    for n in SIZES:
        alone = measured(n)
        assert 0.05 < alone["map_coco"] < alone["map"] <= 1
        for found in both:  # each knows them, as it chooses the best epoch by them
            assert found[n] == pytest.approx(alone, abs=1e-9)


def test_it_accepts_outputs_of_any_scale_on_a_square_grid(task):
    task.check(torch.zeros(2, 16, 3, 5), torch.zeros(2, 3, 96, 160))


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(2, 16), r"output for images of 96 x 160 is \[2, 16\]: the cells of a grid"),
        (torch.zeros(2, 16, 5, 3), r"\[2, 16, 5, 3\]: the cells of a grid must be square"),
        (torch.zeros(2, 16, 36, 60), r"\[2, 16, 36, 60\]: the cells .* square, of whole pixels"),
        (torch.zeros(2, 24, 3, 5), r"is \[2, 24, 3, 5\], not \[2, 16, rows, columns\]: 2 a"),
        (torch.zeros(1, 16, 3, 5), r"output for 2 images is \[1, 16, 3, 5\]"),
        ((torch.zeros(2, 16, 3, 5),), r"output for 2 images is tuple"),
    ],
)
def test_it_refuses_other_outputs(task, output, said):
    with pytest.raises(ValueError, match=said):
        task.check(output, torch.zeros(2, 3, 96, 160))


@dataclass
class Boxes:
    boxes: list[Tensor]
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __len__(self):
        return len(self.boxes)

    def name(self, index):
        return f"scene {index}"


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, 3), (0, -1), (0, 0.5), (1, 1.01), (2, -0.01), (3, 0), (4, 1.01), (4, float("nan"))],
)
def test_it_names_the_first_box_that_is_none(task, place, value):
    good = cell(3, 3, 2)
    bad = good.clone()
    bad[place] = value
    none = torch.zeros(0, 6)
    task.check_source(Boxes([none, good[None], none]))
    task.check_source(Boxes([]))
    source = Boxes([none, good[None], none, torch.stack([good, bad]), bad[None]])
    with pytest.raises(
        ValueError, match=r"scene 3: invalid box \[.*\]: .*; 2 of 4 boxes are wrong"
    ):
        task.check_source(source)


def test_it_needs_a_source_of_boxes(task):
    with pytest.raises(ValueError, match="str has no boxes: detection needs a BoxSource"):
        task.check_source("images")


def test_it_decides_a_class_for_each_box(task):
    decided = task.decide(saying([(1, 1, 0, 2, 2)]))
    assert decided.shape == (2, 2, 4, 4)
    assert decided.dtype == torch.int64
    assert decided[1, 1, 0, 2] == 2
    assert (decided == -1).sum() == decided.numel() - 1


def cells_with_a_box(picture, color):
    """Return the cells of a 4 x 4 grid in whose upper left corner this color begins."""
    painted = (picture == torch.tensor(color).view(3, 1, 1)).all(0)
    high, wide = painted.shape
    return painted[1 :: high // 4, 1 :: wide // 4].nonzero().tolist()


@pytest.mark.parametrize("size", [(3, 160, 160), (3, 96, 160), (3, 600, 600)])
def test_it_draws_objects_and_what_is_found_side_by_side(task, size):
    image = torch.full(size, 100, dtype=torch.uint8)
    target = torch.stack([cell(0, 1, 0), torch.full((6,), -1), cell(2, 2, 1, difficult=1)])
    drawn = task.draw(image, target, saying([(0, 0, 2, 2, 1)])[0])
    factor = max(1, round(detection.SMALLEST / size[2]))
    assert drawn.shape == (3, size[1] * factor, 2 * size[2] * factor)
    left, right = drawn.chunk(2, dim=2)
    assert cells_with_a_box(left, (0, 255, 0)) == [[0, 1], [2, 2]]
    assert cells_with_a_box(right, (255, 255, 0)) == [[2, 2]]


def test_it_draws_nothing_where_there_is_nothing(task):
    image = torch.randint(256, (3, 480, 480), dtype=torch.uint8)
    drawn = task.draw(image, torch.zeros(0, 6), saying([], images=1)[0])
    assert torch.equal(drawn, torch.cat([image, image], dim=2))
