from dataclasses import replace

import pytest

from kdx_lab.scenes import ScenePlan


def test_the_extremes_are_allowed():
    ScenePlan(images=(1, 1, 999_997), size=(32, 4096), objects=(0, 100), seed=2**32 - 1)
    ScenePlan(objects=(0, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": (0, 1, 1)}, r"images of train: 0 is not between 1 and 999,999"),
        ({"images": (1, 1, -1)}, r"images of test: -1 is not between 1"),
        (
            {"images": (1, 1, 999_998)},
            r"images of all splits: 1000000 is not between 1",
        ),
        ({"size": (31, 64)}, r"size: height: 31 is not between 32 and 4,096"),
        ({"size": (64, 4097)}, r"size: width: 4097 is not between 32 and 4,096"),
        ({"objects": (3, 2)}, r"objects: minimum: 3 is not between 0 and 2"),
        ({"objects": (0, 101)}, r"objects: maximum: 101 is not between 0 and 100"),
        ({"seed": -1}, r"seed: -1 is not between 0 and 4,294,967,295"),
    ],
)
def test_numbers_out_of_range(change, message):
    with pytest.raises(ValueError, match=message):
        replace(ScenePlan(), **change)
