import math

import pytest
import torch

from kdx.detection import detect

ANCHORS = torch.tensor([[1.0, 1.0], [2.0, 2.0]])


def silent(images=1, rows=4, columns=4):
    """Return an output of two anchors and two classes in which nothing is seen."""
    return torch.full((images, 14, rows, columns), -20.0)


def say(output, anchor, row, column, *, objectness, kind, image=0, box=(0, 0, 0, 0)):
    """Let a box be seen; the probability of its class is 1 but for rounding."""
    values = torch.tensor([*box, math.log(objectness / (1 - objectness)), 0, 0])
    values[5 + kind] = 50
    output[image, anchor * 7 : anchor * 7 + 7, row, column] = values


def test_a_box_by_hand():
    output = silent()
    say(output, 0, 1, 2, objectness=0.8, kind=1)
    (found,) = detect(output, num_classes=2, anchors=ANCHORS)
    torch.testing.assert_close(found.boxes, torch.tensor([[0.5, 0.25, 0.75, 0.5]]))
    torch.testing.assert_close(found.scores, torch.tensor([0.8]))
    assert found.classes.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_outputs_of_half_precision(dtype):
    output = silent()
    say(output, 0, 1, 2, objectness=0.8, kind=1)
    (found,) = detect(output.to(dtype), num_classes=2, anchors=ANCHORS)
    assert found.boxes.dtype == torch.float32
    torch.testing.assert_close(found.scores, torch.tensor([0.8]), rtol=0, atol=0.01)


def test_overlapping_boxes_of_a_class_are_one():
    """Beside the surest lies one of IoU 1/4, and on it one of IoU 0.6, but of half the width."""
    output = silent()
    say(output, 0, 1, 1, objectness=0.7, kind=0)
    say(output, 1, 1, 1, objectness=0.9, kind=0)
    for limit, scores in ((100, [0.9, 0.7]), (1, [0.9])):
        (found,) = detect(output, num_classes=2, anchors=ANCHORS, limit=limit)
        torch.testing.assert_close(found.scores, torch.tensor(scores))
    (found,) = detect(output, num_classes=2, anchors=ANCHORS, iou=0.2)
    assert len(found.scores) == 1
    say(output, 0, 1, 1, objectness=0.7, kind=1)
    (found,) = detect(output, num_classes=2, anchors=ANCHORS, iou=0.2)
    assert found.classes.tolist() == [0, 1]


def test_scores_are_objectness_times_probability_and_count_for_every_class():
    output = silent()
    say(output, 0, 0, 0, objectness=0.8, kind=0)
    output[0, 5:7, 0, 0] = torch.tensor([math.log(3), 0])  # 3/4 and 1/4
    (found,) = detect(output, num_classes=2, anchors=ANCHORS, score=0.1)
    torch.testing.assert_close(found.scores, torch.tensor([0.6, 0.2]))
    assert found.classes.tolist() == [0, 1]
    (found,) = detect(output, num_classes=2, anchors=ANCHORS, score=0.3)
    assert found.classes.tolist() == [0]


def test_boxes_end_at_the_images_border_and_images_stay_apart():
    output = silent(images=3)
    say(output, 1, 0, 0, objectness=0.9, kind=0, image=0, box=(0, 0, 1e9, 1e9))
    say(output, 1, 3, 3, objectness=0.9, kind=0, image=2)
    found = detect(output, num_classes=2, anchors=ANCHORS)
    assert [len(each.scores) for each in found] == [1, 0, 1]
    assert found[0].boxes.tolist() == [[0, 0, 1, 1]]
    assert found[2].boxes.tolist() == [[0.625, 0.625, 1, 1]]
    assert found[1].boxes.shape == (0, 4)


@pytest.mark.parametrize("value", [0.0, float("nan"), 1e30, -1e30])
def test_any_output_gives_boxes_in_the_image(value):
    (found,) = detect(torch.full((1, 14, 12, 20), value), num_classes=2, anchors=ANCHORS, score=0)
    assert len(found.scores) <= 100
    assert ((found.boxes >= 0) & (found.boxes <= 1)).all()
