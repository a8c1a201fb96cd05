import math
from functools import partial

import pytest
import torch

from kdx.losses import Yolo
from kdx.protocols import Outputs
from tests.contracts import check_loss

ANCHORS = [[1.0, 1.5], [3.0, 2.0]]
CLASSES, VALUES = 3, 8
ROWS, COLUMNS = 3, 4
yolo = partial(Yolo, num_classes=CLASSES, anchors=ANCHORS)


def random_output(images=1):
    torch.manual_seed(0)
    shape = (images, 2 * VALUES, ROWS, COLUMNS)
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def made():
    """Return an output and objects: some difficult, some in one slot, the last image without."""
    output = random_output(images=4)
    target = torch.rand(4, 5, 6)
    target[..., 0] = torch.randint(0, CLASSES, (4, 5))
    target[..., 3:5] = target[..., 3:5] * 0.8 + 0.05
    target[..., 5] = (target[..., 5] < 0.25).float()
    target[0, 1, 1:5] = target[0, 0, 1:5]
    target[1, 2:] = -1
    target[-1] = -1
    return output, target


def test_contract():
    _, target = made()
    check_loss(yolo, logits=(4, 2 * VALUES, ROWS, COLUMNS), target=target, may_overflow=True)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def overlap(a, b):
    """Return the IoU of two boxes (x, y, w, h)."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2)
        - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2)
        for i in (0, 1)
    ]
    inside = max(0.0, sides[0]) * max(0.0, sides[1])
    return inside / (a[2] * a[3] + b[2] * b[3] - inside)


def region_layer(values, objects, *, rescore, threshold):
    """Return the terms of one image as darknet's region layer goes through it, box by box.

    `values[a][row][column]` are those of a box; difficult objects are added to darknet's rules.
    """
    boxes, empty = {}, {}
    for a, (wide, high) in enumerate(ANCHORS):
        for r in range(ROWS):
            for c in range(COLUMNS):
                tx, ty, tw, th, *_ = values[a][r][c]
                x, y = (sigmoid(tx) + c) / COLUMNS, (sigmoid(ty) + r) / ROWS
                box = (x, y, wide * math.exp(tw) / COLUMNS, high * math.exp(th) / ROWS)
                boxes[a, r, c] = box
                best = max([overlap(box, row[1:5]) for row in objects], default=0)
                empty[a, r, c] = best <= threshold
    learned = {}
    for row in objects:
        _, x, y, w, h, difficult = row
        cell = min(int(y * ROWS), ROWS - 1), min(int(x * COLUMNS), COLUMNS - 1)
        fits = [overlap((0, 0, w * COLUMNS, h * ROWS), (0, 0, *anchor)) for anchor in ANCHORS]
        slot = (fits.index(max(fits)), *cell)
        empty[slot] = False
        if not difficult:
            learned[slot] = row
    terms = {"coord": 0.0, "object": 0.0, "noobject": 0.0, "class": 0.0}
    for slot, (kind, x, y, w, h, _) in learned.items():
        a, r, c = slot
        tx, ty, tw, th, objectness, *logits = values[a][r][c]
        wanted = (
            x * COLUMNS - c,
            y * ROWS - r,
            math.log(w * COLUMNS / ANCHORS[a][0]),
            math.log(h * ROWS / ANCHORS[a][1]),
        )
        said = (sigmoid(tx), sigmoid(ty), tw, th)
        far = sum((p - q) ** 2 for p, q in zip(said, wanted, strict=True))
        terms["coord"] += (2 - w * h) * far / 2
        goal = overlap(boxes[slot], (x, y, w, h)) if rescore else 1
        terms["object"] += (goal - sigmoid(objectness)) ** 2 / 2
        terms["class"] += math.log(sum(map(math.exp, logits))) - logits[int(kind)]
    for (a, r, c), is_empty in empty.items():
        terms["noobject"] += is_empty * sigmoid(values[a][r][c][4]) ** 2 / 2
    return terms


@pytest.mark.parametrize("rescore", [True, False])
@pytest.mark.parametrize("threshold", [0.6, 0.2])
def test_against_a_loop_over_boxes(rescore, threshold):
    output, target = made()
    nested = output.unflatten(1, (2, VALUES)).movedim(2, -1).tolist()
    scales = {"coord": 2.0, "object": 5.0, "noobject": 0.5, "class": 3.0}
    images = [
        region_layer(
            image, [row for row in rows if row[0] >= 0], rescore=rescore, threshold=threshold
        )
        for image, rows in zip(nested, target.double().tolist(), strict=True)
    ]
    for kept in [*scales, None]:  # each term alone, and all of them
        used = {n: s * (kept in (n, None)) for n, s in scales.items()}
        loss = yolo(
            **{f"{n}_scale": s for n, s in used.items()}, rescore=rescore, threshold=threshold
        )
        expected = sum(used[n] * terms[n] for terms in images for n in terms) / len(images)
        assert expected > 0.1
        assert loss(Outputs(output), None, target).item() == pytest.approx(expected, rel=1e-12)


def test_a_perfect_output_costs_nothing():
    output = torch.full((1, 2 * VALUES, ROWS, COLUMNS), -30.0)
    row = [2, 1.75 / COLUMNS, 2.5 / ROWS, 3.6 / COLUMNS, 2.0 / ROWS, 0]  # the second anchor's
    right = [math.log(3), 0, math.log(1.2), 0, 30, -30, -30, 30]  # sigmoid(log 3) is 0.75
    output[0, VALUES:, 2, 1] = torch.tensor(right)
    for rescore in (True, False):
        value = yolo(rescore=rescore)(Outputs(output), None, torch.tensor([[row]]))
        assert value.item() == pytest.approx(0, abs=1e-10)
    output[0, VALUES + 2, 2, 1] += 0.5  # a wrong width: half of 0.5^2, and little for the IoU
    value = yolo(object_scale=0)(Outputs(output), None, torch.tensor([[row]]))
    assert value.item() == pytest.approx((2 - row[3] * row[4]) * 0.125, rel=1e-5)


def test_images_without_objects_cost_their_objectness():
    output = torch.zeros(2, 2 * VALUES, ROWS, COLUMNS)
    for target in (torch.zeros(2, 0, 6), torch.full((2, 3, 6), -1.0)):
        value = yolo(noobject_scale=2)(Outputs(output), None, target)
        assert value.item() == pytest.approx(2 * ROWS * COLUMNS * 2 * 0.25 / 2)


def test_difficult_objects_are_held_against_no_box():
    output = random_output()
    row = torch.tensor([[[0, 0.4, 0.4, 0.3, 0.5, 1]]])
    (gradient,) = torch.autograd.grad(yolo()(Outputs(output), None, row), output)
    values = gradient[0].unflatten(0, (2, VALUES))
    objectness = values[:, 4]
    assert objectness[0, 1, 1] == 0
    assert (objectness != 0).sum() >= 2 * ROWS * COLUMNS - 3
    assert values[:, :4].count_nonzero() == values[:, 5:].count_nonzero() == 0


def test_the_gradient_is_darknets_in_the_raw_values():
    """scale (goal - sigmoid) sigmoid' for objectness, scale (goal - tw) for tw."""
    output = random_output()
    row = torch.tensor([[[1, 0.4, 0.4, 0.3, 0.5, 0]]])
    loss = yolo(rescore=False)
    (gradient,) = torch.autograd.grad(loss(Outputs(output), None, row), output)
    said, gradient = output[0, :VALUES, 1, 1], gradient[0, :VALUES, 1, 1]
    s = said.sigmoid()
    torch.testing.assert_close(gradient[4], -5 * (1 - s[4]) * s[4] * (1 - s[4]))
    small = 2 - row[0, 0, 3].double() * row[0, 0, 4].double()
    width = (row[0, 0, 3].double() * COLUMNS / ANCHORS[0][0]).log()
    torch.testing.assert_close(gradient[2], -small * (width - said[2]))
    probability = said[5:].softmax(0)
    torch.testing.assert_close(gradient[5:], probability - torch.tensor([0.0, 1, 0]))


def test_gradient_against_differences():
    def value(logits):
        return yolo(rescore=False)(Outputs(logits), None, made()[1][:2])

    assert torch.autograd.gradcheck(value, (random_output(images=2),), fast_mode=True)


def test_a_batch_in_parts_gives_the_gradient_of_the_whole():
    output, target = made()
    whole = torch.autograd.grad(yolo()(Outputs(output), None, target), output)[0]
    loss = yolo()
    parts = sum(
        n / 4 * loss(Outputs(part), None, rows)
        for n, part, rows in zip((1, 3), output.split((1, 3)), target.split((1, 3)), strict=True)
    )
    torch.testing.assert_close(torch.autograd.grad(parts, output)[0], whole, rtol=1e-12, atol=1e-14)


def test_the_order_of_padding_and_its_length_do_not_count():
    output, target = made()
    longer = torch.cat([torch.full((4, 2, 6), -1.0), target], dim=1)
    values = [yolo()(Outputs(output), None, each).item() for each in (target, longer)]
    assert values[0] == pytest.approx(values[1], rel=1e-14)


def test_refusals():
    with pytest.raises(ValueError, match=r"yolo: the output \[4, 8, 3, 4\] has A = 1 anchors"):
        yolo()(Outputs(torch.zeros(4, 8, 3, 4)), None, made()[1])
    with pytest.raises(ValueError, match=r"it must be \[B, A \* 8, rows, columns\]"):
        yolo()(Outputs(torch.zeros(4, 5)), None, made()[1])
    with pytest.raises(ValueError, match="noobject_scale: -1 is not a finite number of at least 0"):
        yolo(noobject_scale=-1)
    with pytest.raises(ValueError, match=r"threshold: 1.5 is not an IoU in \[0, 1\]"):
        yolo(threshold=1.5)
