"""Runs of Python objects."""

import pytest

import kdx
from tests.unit.kdx.run.made_of_objects import SMALL, Digits, network


@pytest.fixture
def distill_objects(tmp_path):
    """Return kdx.distill of a small network on a few digits, with what is given instead."""
    test = Digits(32, test=True)

    def distilled(**given):
        given = {"student": network(), "train": Digits(64), "test": test, **SMALL, **given}
        return kdx.distill(output_root=tmp_path, **given)

    return distilled
