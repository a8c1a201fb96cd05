import json
from math import inf, nan

import numpy as np
import pytest

from kdx_lab.analysis.bands import Band, percent, together, write_numbers


def test_a_band_has_mean_and_sample_deviation_where_all_runs_have_a_value():
    band = together([{1: 1.0, 2: 5.0, 3: 7.0}, {3: 1.0, 1: 3.0}])
    assert band.x.tolist() == [1, 3]
    assert band.mean.tolist() == [2, 4]
    assert band.std == pytest.approx([2**0.5, 18**0.5])


def test_one_run_has_no_deviation_and_what_is_not_finite_is_left_out():
    band = together([{1: 1.0, 2: nan, 3: inf}])
    assert (band.x.tolist(), band.mean.tolist(), band.std.tolist()) == ([1], [1], [0])
    assert together([{1: 1.0}, {2: 1.0}]).mean.shape == (0,)


def test_numbers_are_written_as_json_that_any_reader_takes(tmp_path):
    band = percent(Band(np.array([1]), np.array([0.5]), np.array([nan])))
    write_numbers(tmp_path / "in" / "a.json", {"band": band, "n": (1, "x", nan), "none": None})
    assert json.loads((tmp_path / "in" / "a.json").read_text()) == {
        "band": {"x": [1], "mean": [50.0], "std": [None]},
        "n": [1, "x", None],
        "none": None,
    }
