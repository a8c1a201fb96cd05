"""Recipes from elsewhere: any of them loads or is refused, soon, and writes nothing but its run."""

import time
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdx.recipe import Recipe, RecipeError, load
from tests.faults.recipes import FULL, SHIPPED, hostile, mutated, overrides, texts, valid

ROOT = Path(__file__).parents[2]
SHORT = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=2000, derandomize=False)
BASES = [FULL, *(yaml.safe_load(path.read_text()) for path in SHIPPED)]
SOON = 1.0  # seconds of the processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder in a tree of its own, for a recipe that may want to leave it."""
    folder = tmp_path_factory.mktemp("tree") / "configs" / "fuzzed"
    folder.mkdir(parents=True)
    for path in SHIPPED:  # imports what recipes name
        load(path)
    return folder


def tree(folder):
    return sorted(map(str, folder.rglob("*")))


def check(folder, content, given=()):
    """Load a recipe; assert that it is one, or is refused as a person would want it."""
    path = folder / "recipe.yaml"
    path.write_bytes(content)
    before, started = tree(folder.parents[1]), time.process_time()
    try:
        recipe = load(path, given, output_root=folder.parents[1] / "out")
    except RecipeError as error:
        recipe = None
        check_message(str(error), str(path))
    assert time.process_time() - started < SOON
    assert tree(folder.parents[1]) == before
    if recipe is not None:
        check_round_trip(recipe, folder)


def check_message(text, file):
    lines = text.splitlines()
    assert 1 <= len(lines) <= 21
    for line in lines:
        assert line.startswith((file, "override ", "... and "))
        assert line.isprintable()
        assert len(line) < 3000


def check_round_trip(recipe, folder):
    assert isinstance(recipe, Recipe)
    again = folder / "again.yaml"
    again.write_text(recipe.to_yaml(), encoding="utf-8")
    memo = recipe.teacher.memo if recipe.teacher else None
    asked = [f"teacher.memo.directory={memo.directory}"] if memo and memo.directory else []
    try:
        read = load(again, asked, output_root=folder.parents[1] / "out")
    finally:
        again.unlink()
    assert read.to_yaml() == recipe.to_yaml()
    assert ".nan" in recipe.to_yaml() or read == recipe


def dumped(data):
    return yaml.dump(data, allow_unicode=True).encode("utf-8", "surrogatepass")


@settings(SHORT, max_examples=50)
@given(mutated(BASES))
def test_mutated_recipes(folder, data):
    check(folder, dumped(data))


@SHORT
@given(texts())
def test_mutated_texts(folder, content):
    check(folder, content)


@settings(SHORT, max_examples=40)
@given(hostile())
def test_structures_that_are_no_recipe(folder, data):
    check(folder, dumped(data))


@settings(SHORT, max_examples=50)
@given(st.lists(overrides(), max_size=3))
def test_hostile_overrides(folder, given):
    check(folder, dumped(FULL), given)


@settings(SHORT, max_examples=20)
@given(valid())
def test_resolved_recipes_read_back_as_the_same(folder, data):
    path = folder / "recipe.yaml"
    path.write_bytes(dumped(data))
    check_round_trip(load(path, output_root=folder.parents[1] / "out"), folder)


@pytest.mark.long
@LONG
@given(mutated(BASES))
def test_many_mutated_recipes(folder, data):
    check(folder, dumped(data))


@pytest.mark.long
@LONG
@given(texts())
def test_many_mutated_texts(folder, content):
    check(folder, content)


@pytest.mark.long
@LONG
@given(st.lists(overrides(), max_size=3))
def test_many_hostile_overrides(folder, given):
    check(folder, dumped(FULL), given)


@pytest.mark.long
@LONG
@given(valid())
def test_many_resolved_recipes_read_back_as_the_same(folder, data):
    path = folder / "recipe.yaml"
    path.write_bytes(dumped(data))
    check_round_trip(load(path, output_root=folder.parents[1] / "out"), folder)
