"""Strings in one buffer."""

import pickle
from pathlib import Path

import pytest

from kdx.util.strings import Strings, packed

NAMES = ["a", "", "größer.png", "\udcff.jpg", "\ud800", "b" * 300]


def test_strings_are_returned_as_they_were():
    strings = Strings(NAMES)
    assert list(strings) == NAMES
    assert (len(strings), strings[-1], strings[1:3]) == (6, NAMES[-1], NAMES[1:3])
    assert list(pickle.loads(pickle.dumps(strings))) == NAMES
    assert "größer.png" in strings
    assert "c" not in strings
    with pytest.raises(IndexError):
        strings[6]


def test_paths_are_strings():
    assert list(Strings([Path("a") / "b.png"])) == [str(Path("a/b.png"))]


def test_none():
    assert (list(Strings([])), Strings([])[:]) == ([], [])


def test_they_are_packed_once():
    strings = packed(NAMES)
    assert packed(strings) is strings


def test_they_are_two_objects_however_many_they_are():
    assert {type(value).__name__ for value in vars(Strings(NAMES)).values()} == {"bytes", "ndarray"}
