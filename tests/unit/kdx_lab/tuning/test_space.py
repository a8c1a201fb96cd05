"""Spaces as a study's file has them."""

import pytest

from kdx_lab.tuning.space import Range, parsed, whole


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("log(1e-3, 1e-1)", Range("log", 1e-3, 0.1)),
        ("uniform(-1,2.5)", Range("uniform", -1, 2.5)),
        ("int( 1 , 8 )", Range("int", 1, 8)),
        ([1, "a", None], (1, "a", None)),
    ],
)
def test_what_is_a_space(given, expected):
    assert parsed(given) == expected


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("lin(0, 1)", r"^'lin\(0, 1\)' is not a space: use log\(low, high\), uni"),
        ("log(a, 1)", r"^'log\(a, 1\)' is not a space: use "),
        ("uniform(1, 1)", r"^'uniform\(1, 1\)': the first number must be below the second"),
        ("uniform(0, inf)", r"both finite$"),
        ("log(0, 1)", r": a logarithmic range needs numbers above 0$"),
        ("int(0.5, 2)", r": int takes whole numbers$"),
        ([1], r"^\[1\] has fewer than 2 values: use "),
    ],
)
def test_what_is_none(given, problem):
    with pytest.raises(ValueError, match=problem):
        parsed(given)


def test_a_range_that_yaml_cuts_at_its_comma_is_explained():
    assert whole({"optimizer.lr": "log(1e-3, 1)", "a": [1, 2]})
    with pytest.raises(ValueError, match=r"^lr: 'log\(1e-3' has no end, .* write it in quotes"):
        whole({"lr": "log(1e-3", "1)": None})
