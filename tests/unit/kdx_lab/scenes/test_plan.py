from dataclasses import replace

import pytest

from kdx_lab.scenes import ScenePlan


def test_the_extremes_are_allowed():
    ScenePlan(images=(1, 1, 999_997), size=(32, 4096), objects=(0, 100), seed=2**32 - 1)
    ScenePlan(objects=(0, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": (0, 1, 1)}, r"images of train: 0 must be from 1 to 999,999"),
        ({"images": (1, 1, -1)}, r"images of test: -1 must be from 1"),
        ({"images": (1, 1, 999_998)}, r"images of all splits: 1000000 must be from 1 to 999,999"),
        ({"size": (31, 64)}, r"size: height: 31 must be from 32 to 4,096"),
        ({"size": (64, 4097)}, r"size: width: 4097 must be from 32 to 4,096"),
        ({"objects": (3, 2)}, r"objects: the fewest: 3 must be from 0 to 2"),
        ({"objects": (0, 101)}, r"objects: the most: 101 must be from 0 to 100"),
        ({"seed": -1}, r"seed: -1 must be from 0 to 4,294,967,295"),
    ],
)
def test_numbers_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        replace(ScenePlan(), **change)
