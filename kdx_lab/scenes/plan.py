"""The checked options of a set of scenes."""

from dataclasses import dataclass

__all__ = ["SPLITS", "ScenePlan"]

SPLITS = ("train", "val", "test")
SMALLEST, LARGEST = 32, 4096  # pixels a side
MOST_IMAGES = 999_999  # of all splits: their names have six digits
MOST_OBJECTS = 100
MOST_SEED = 2**32 - 1  # one word of a key


@dataclass(frozen=True)
class ScenePlan:
    """The number of scenes (train, val, test), their `size` (height, width) and number of objects.

    `objects` are the minimum and maximum per scene. Raises ValueError for numbers out of range.
    """

    images: tuple[int, int, int] = (2000, 250, 500)
    size: tuple[int, int] = (160, 160)
    objects: tuple[int, int] = (1, 6)
    seed: int = 0

    def __post_init__(self) -> None:
        for split, count in zip(SPLITS, self.images, strict=True):
            _check(f"images of {split}", count, 1, MOST_IMAGES)
        _check("images of all splits", sum(self.images), 1, MOST_IMAGES)
        for side, pixels in zip(("height", "width"), self.size, strict=True):
            _check(f"size: {side}", pixels, SMALLEST, LARGEST)
        fewest, most = self.objects
        _check("objects: maximum", most, 0, MOST_OBJECTS)
        _check("objects: minimum", fewest, 0, most)
        _check("seed", self.seed, 0, MOST_SEED)


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name}: {value} is not between {least} and {most:,}")
