import math

import pytest
import torch

from kdx.detection import anchor_table, coordinates, decode, shape_iou, split


def test_the_channels_are_anchor_by_anchor():
    output = torch.arange(2 * 16 * 3 * 4.0).reshape(2, 16, 3, 4)
    parts = split(output, num_classes=3)
    for anchor in (0, 1):
        cell = output[1, anchor * 8 : anchor * 8 + 8, 2, 3]
        assert parts.offsets[1, anchor, 2, 3].equal(cell[0:2])
        assert parts.sizes[1, anchor, 2, 3].equal(cell[2:4])
        assert parts.objectness[1, anchor, 2, 3] == cell[4]
        assert parts.classes[1, anchor, 2, 3].equal(cell[5:])


@pytest.mark.parametrize("shape", [(2, 15, 3, 4), (2, 16, 3), (2, 0, 3, 4)])
def test_other_channels_are_no_boxes(shape):
    with pytest.raises(ValueError, match=r"has no boxes: it must be \[B, A \* 8, rows, columns\]"):
        split(torch.zeros(shape), num_classes=3)


def test_a_box_worked_by_hand():
    """sigmoid(0) is half a cell; sigmoid(log 3) three quarters of one; exp(log 2) doubles."""
    output = torch.zeros(1, 12, 2, 4)
    output[0, 6:10, 1, 2] = torch.tensor([0, math.log(3), math.log(2), 0])
    parts = split(output, num_classes=1)
    boxes = decode(parts, torch.tensor([[9.0, 9.0], [1.0, 0.5]]))
    assert boxes.shape == (1, 2, 2, 4, 4)
    expected = torch.tensor([2.5 / 4, 1.75 / 2, 2 / 4, 0.5 / 2])
    torch.testing.assert_close(boxes[0, 1, 1, 2], expected)
    raw = torch.tensor([0.5, 0.75, math.log(2), 0])
    torch.testing.assert_close(coordinates(parts)[0, 1, 1, 2], raw)
    first_of_the_other_anchor = torch.tensor([0.5 / 4, 0.5 / 2, 9 / 4, 9 / 2])
    torch.testing.assert_close(boxes[0, 0, 0, 0], first_of_the_other_anchor)


def test_no_box_is_infinite():
    boxes = decode(split(torch.full((1, 6, 1, 1), 1e30), num_classes=1), torch.ones(1, 2))
    torch.testing.assert_close(boxes[0, 0, 0, 0], torch.tensor([1, 1, math.exp(10), math.exp(10)]))


def test_overlap_of_shapes():
    sizes, anchors = torch.tensor([[2.0, 1.0], [0, 0]]), torch.tensor([[1.0, 2.0], [4, 1]])
    torch.testing.assert_close(shape_iou(sizes, anchors), torch.tensor([[1 / 3, 1 / 2], [0, 0]]))


def test_anchors_are_pairs_of_sides():
    assert anchor_table([[1, 2], (3.5, 4)]).equal(torch.tensor([[1, 2], [3.5, 4]]))
    for bad in ([1.0], [1, 2, 3], [0, 1], [1, math.inf], [math.nan, 1]):
        with pytest.raises(ValueError, match=r"anchors: .* is not a width and a height in cells"):
            anchor_table([[1, 1], bad])
    with pytest.raises(ValueError, match=r"anchors: none given: `kdx anchors` finds some"):
        anchor_table([])
