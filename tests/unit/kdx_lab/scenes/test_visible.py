"""Worked by hand: a scene of 12 x 20 pixels, where the ring is one pixel wide."""

import numpy as np
import pytest

from kdx_lab.scenes.visible import CLUTTER, RING, annotate


def layered(*blocks: tuple[int, tuple[slice, slice]]) -> np.ndarray:
    layers = np.zeros((12, 20), np.uint8)
    for number, place in blocks:
        layers[place] = number
    return layers


def test_an_object_that_is_seen_whole():
    layers = layered((1, np.s_[2:10, 3:12]))
    ringed, (found,) = annotate(layers, [(7, 72)])
    assert (found.number, found.label, found.box) == (1, 7, (3, 2, 11, 9))
    assert (found.truncated, found.difficult) == (False, False)
    expected = layered((RING, np.s_[1:11, 2:13]), (1, np.s_[2:10, 3:12]))
    assert (ringed == expected).all()


@pytest.mark.parametrize(
    ("whole", "truncated", "difficult"),
    [
        (80, False, False),
        (81, True, False),
        (239, True, False),
        (240, True, False),
        (241, True, True),
    ],
)
def test_less_than_a_third_is_difficult(whole, truncated, difficult):
    _, (found,) = annotate(layered((1, np.s_[2:10, 5:15])), [(0, whole)])
    assert (found.truncated, found.difficult) == (truncated, difficult)


@pytest.mark.parametrize(("columns", "difficult"), [(8, False), (7, True)])
def test_fewer_than_64_pixels_are_difficult(columns, difficult):
    _, (found,) = annotate(layered((1, np.s_[2:10, 5 : 5 + columns])), [(0, 8 * columns)])
    assert (found.truncated, found.difficult) == (False, difficult)


def test_the_ring_of_an_object_lies_on_what_is_behind():
    layers = layered(
        (CLUTTER, np.s_[:, :6]), (1, np.s_[0:10, 4:14]), (2, np.s_[0:8, 10:20])
    )  # 2 covers 4 columns of 1, and its ring another
    ringed, (lower, upper) = annotate(layers, [(0, 100), (1, 80)])
    assert (lower.box, lower.truncated) == ((4, 0, 13, 9), True)
    assert (upper.box, upper.truncated) == ((10, 0, 19, 7), False)
    assert (ringed[0:9, 9] == RING).all()
    assert (ringed[8, 9:14] == RING).all()  # of 2, on 1
    assert (ringed[0:10, 3] == RING).all()  # of 1, on clutter
    assert (ringed[:, :3] == CLUTTER).all()
    assert (ringed == 2).sum() == 80


def test_what_a_ring_covers_is_not_found():
    layers = layered((1, np.s_[2:4, 2:3]), (2, np.s_[2:4, 3:20]))
    ringed, found = annotate(layers, [(0, 30), (1, 34), (2, 50)])
    assert [one.number for one in found] == [2]
    assert not (ringed == 1).any()


def test_the_ring_grows_with_the_scene():
    layers = np.zeros((320, 400), np.uint8)
    layers[100:150, 100:150] = 1
    ringed, _ = annotate(layers, [(0, 2500)])
    assert (ringed == RING).sum() == 54**2 - 50**2
