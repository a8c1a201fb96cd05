import math

import torch

from kdx.detection import assign

ANCHORS = torch.tensor([[1.0, 1.0], [2.0, 4.0], [4.0, 2.0]])
GRID = (4, 8)  # rows, columns


def at(*rows):
    """Assign the objects of one image, [M, 6]; return it without batch."""
    target = torch.tensor([rows], dtype=torch.float64).reshape(1, -1, 6)
    return [each[0] for each in assign(target, ANCHORS.double(), grid=GRID)]


def slot(anchor, row, column):
    return (anchor * GRID[0] + row) * GRID[1] + column


def test_the_centres_cell_and_the_anchor_of_the_nearest_shape():
    """The second is 4 x 2 cells, the third 1.5 x 3."""
    slots, real, positive, coordinates = at(
        [0, 0.5, 0.5, 0.1, 0.2, 0], [1, 0.3, 0.9, 0.5, 0.5, 0], [1, 0.99, 0.01, 1.5 / 8, 0.75, 0]
    )
    assert slots.tolist() == [slot(0, 2, 4), slot(2, 3, 2), slot(1, 0, 7)]
    assert real.all()
    assert positive.all()
    expected = [
        [0, 0, math.log(0.8), math.log(0.8)],
        [0.4, 0.6, 0, 0],
        [0.92, 0.04, math.log(0.75), math.log(0.75)],
    ]
    torch.testing.assert_close(coordinates, torch.tensor(expected, dtype=torch.float64))


def test_centres_at_the_border_stay_in_the_first_and_the_last_cell():
    slots, _, _, coordinates = at([0, 0, 0, 0.1, 0.2, 0], [0, 1, 1, 0.1, 0.2, 0])
    assert slots.tolist() == [slot(0, 0, 0), slot(0, 3, 7)]
    assert coordinates[:, :2].tolist() == [[0, 0], [1, 1]]


def test_the_first_of_equal_anchors():
    slots, *_ = at([0, 0.5, 0.5, 0.25, 0.5, 0])  # 2 x 2 cells: half of both wide ones
    assert slots.tolist() == [slot(1, 2, 4)]


def test_of_two_objects_in_a_slot_the_later_is_learned():
    here, there = [0, 0.51, 0.51, 0.1, 0.2, 0], [0, 0.51, 0.51, 0.5, 0.5, 0]
    slots, _, positive, _ = at(here, there, here, there, here)
    assert positive.tolist() == [False, False, False, True, True]
    assert len(slots.unique()) == 2


def test_difficult_objects_are_real_but_learned_nowhere_and_win_nothing():
    here = [0, 0.51, 0.51, 0.1, 0.2]
    _, real, positive, _ = at([*here, 0], [*here, 1])
    assert real.tolist() == [True, True]
    assert positive.tolist() == [True, False]


def test_padding_and_boxes_without_area_are_no_objects():
    _, real, positive, coordinates = at(
        [-1] * 6, [0, 0.5, 0.5, 0, 0.1, 0], [0, 0.5, 0.5, 0.1, 0.1, 0], [-1] * 6
    )
    assert real.tolist() == positive.tolist() == [False, False, True, False]
    assert coordinates.isfinite().all()


def test_images_do_not_disturb_each_other_and_may_have_no_object():
    row = [0, 0.5, 0.5, 0.1, 0.1, 0]
    _, _, positive, _ = assign(torch.tensor([[row], [row]]), ANCHORS, grid=GRID)
    assert positive.all()
    assert assign(torch.zeros(3, 0, 6), ANCHORS, grid=GRID).slots.shape == (3, 0)
