"""Checks that every plug-in must pass, called by the tests of each."""

from tests.contracts.losses import TARGET, check_loss, outputs, pair
from tests.contracts.scenes import check_scenes
from tests.contracts.transforms import check_geometries, check_transform

__all__ = [
    "TARGET", "check_geometries", "check_loss", "check_scenes", "check_transform", "outputs",
    "pair",
]  # fmt: skip
