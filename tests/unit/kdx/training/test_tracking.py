"""Trackers as a run sees them: what they are told, and that none of them ends it."""

import json
import random

import numpy as np
import pytest
import torch

from kdx.recipe import Component, RecipeError
from kdx.run.run import run
from kdx.training import trackers, tracking
from kdx.training.tracking import Tracking
from tests.toys import Ledger
from tests.unit.runs import contents, listed, same

LEDGER = "{use: tests.toys.Ledger%s}"
NOTE = "note     tests.toys.Ledger failed; what it misses is logged again at the end, or by"


@pytest.fixture(autouse=True)
def told(monkeypatch):
    monkeypatch.setattr(Ledger, "told", [])
    return Ledger.told


@pytest.fixture
def ledger(tmp_path, console):
    """Return a function that starts a Ledger and another tracker."""

    def start(**arguments):
        parts = [
            Component("tracker", use, given, Ledger, "a.yaml:3", f"trackers[{index}]")
            for index, (use, given) in enumerate((("first", {}), ("second", arguments)))
        ]
        return Tracking(tmp_path, parts, console, name="a/run", config={"seed": 1, "teachers": {}})

    return start


def test_trackers_are_names_or_mappings_and_tensorboard_by_default(recipe):
    assert [each.use for each in recipe().trackers] == ["tensorboard"]
    found = recipe("trackers=[mlflow, {use: wandb, project: digits, mode: offline}]").trackers
    assert [(each.use, each.arguments) for each in found] == [
        ("mlflow", {}), ("wandb", {"project": "digits", "mode": "offline"}),
    ]  # fmt: skip
    assert recipe("trackers=[]").trackers == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("[mlflw]", r"trackers\[0\].use: 'mlflw' is not a tracker. Did you mean 'mlflow'\?"),
        ("[wandb, {use: wandb}]", r"trackers: 'wandb' is there twice: a run has one tracker of ea"),
        ("[{use: mlflow, projct: a}]", r"trackers\[0\].projct: unknown argument. Did you mean 'pr"),
        ("[{use: tensorboard, run_dir: /}]", r"trackers\[0\].run_dir: unknown argument"),
        ("[{use: wandb, run_id: a}]", r"trackers\[0\].run_id: unknown argument"),
        ("[3]", r"trackers\[0\]: "),
        ("wandb", r"trackers: .*list"),
        ("[{use: tests.toys.Pair}]", r"trackers\[0\].use: .* is not a tracker"),
    ],
)
def test_what_is_no_tracker_is_refused(recipe, given, message):
    with pytest.raises(RecipeError, match=message):
        recipe(f"trackers={given}")


def test_a_package_that_is_missing_is_named_before_anything_is_written(
    recipe, console, monkeypatch
):
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    asked = recipe("trackers=[tensorboard, {use: trackio}]")
    monkeypatch.setattr(trackers, "find_spec", lambda name: None if name == "trackio" else object())
    with pytest.raises(
        RecipeError,
        match=r"'trackers=.*: trackers\[1\]: 'trackio': the package trackio is not installed: "
        r"pip install 'kdx\[trackio\]'",
    ):
        run(asked, console)
    assert not asked.run_dir.exists()


def test_a_tracker_is_told_the_recipe_and_each_epoch(recipe, console, told):
    run_dir = run(recipe("epochs=2", f"trackers=[{LEDGER % ''}]"), console)
    assert [entry[0] for entry in told] == [
        "start", "config", "log", "log", "log", "finish",
    ]  # fmt: skip
    assert told[0] == ("start", "digits/plain")
    config = told[1][1]
    assert (config["data.use"], config["losses.0.use"], config["clip"]) == (
        "digits", "cross_entropy", None,
    )  # fmt: skip
    assert "teachers" not in config  # {}: not a value that trackers take
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [entry[1] for entry in told[2:4]] == [1, 2]
    added = {name: lines[1].pop(name) for name in list(lines[1]) if name.startswith("exported/")}
    assert [{"epoch": n, "stage": "train", **v} for _, n, v in told[2:4]] == lines
    assert told[4] == ("log", 2, added)
    assert not {"tensorboard", "trackers.json"} & set(listed(run_dir))


def test_a_tracker_that_fails_is_noted_once_and_catches_up(recipe, console, told):
    plain = run(recipe("epochs=3"), console)
    failing = recipe("epochs=3", f"trackers=[{LEDGER % ', fail_at: 2'}]", name="failing")
    run_dir = run(failing, console)
    assert console.file.getvalue().count(NOTE) == 1
    assert "ConnectionError: no network, 3 times" in console.file.getvalue()
    assert [entry[1] for entry in told if entry[0] == "log"] == [1, 2, 3]
    assert told[-1] == ("finish",)
    assert same(contents(plain), contents(run_dir))


def test_one_tracker_fails_alone(ledger, told, console):
    both = ledger(fail_at=1)
    both.log([(1, {"a": 1.0})])
    both.log([(2, {"a": 2.0})])
    assert [entry[1] for entry in told if entry[0] == "log"] == [1, 2]
    assert {use: record.epoch for use, record in both.records.items()} == {
        "first": 2, "second": 0,
    }  # fmt: skip
    both.close()
    both.close()
    assert told.count(("finish",)) == 2


def test_a_failure_to_finish_is_noted(ledger, told, console):
    ledger(fail_at="finish").close()
    assert "note     second failed; " in console.file.getvalue()


@pytest.mark.parametrize("at", ["start", "config"])
def test_a_tracker_that_does_not_start_is_an_error_and_ends_the_others(ledger, told, at):
    expected = r"a.yaml:3: trackers\[1\]: 'second': the tracker does not start: ConnectionError: no"
    with pytest.raises(RecipeError, match=expected):
        ledger(fail_at=at)
    assert told.count(("finish",)) == 1 + (at == "config")


def test_none_is_started_if_one_cannot_be_reached(ledger, told, monkeypatch):
    def gone(tracker):
        raise ConnectionError("no server")

    monkeypatch.setattr(tracking, "REACH", {"second": gone})
    with pytest.raises(RecipeError, match=r"'second': the tracker does not start: .*: no server"):
        ledger()
    assert told == []


def test_wandb_is_started_first(tmp_path, console, told, monkeypatch):
    monkeypatch.setattr(tracking, "RUN_ID", {})
    ends = Component("tracker", "wandb", {"fail_at": "start"}, Ledger, "a.yaml:3", "trackers[1]")
    other = Component("tracker", "other", {}, Ledger, "a.yaml:3", "trackers[0]")
    with pytest.raises(RecipeError, match="'wandb': the tracker does not start"):
        Tracking(tmp_path, [other, ends], console, name="a/run", config={})
    assert ("finish",) not in told


def test_a_list_without_tensorboard_is_noted(tmp_path, console, told):
    part = Component("tracker", "mine", {}, Ledger, "a.yaml:3", "trackers[0]")
    Tracking(tmp_path, [part], console, name="a/run", config={})
    note = (
        "note     no TensorBoard, which trackers does not name: trackers: [tensorboard, mine] has"
    )
    assert note in " ".join(console.file.getvalue().split("\n"))
    before = console.file.getvalue()
    Tracking(tmp_path, [], console, name="a/run", config={})
    assert console.file.getvalue() == before


def test_random_numbers_are_as_without_trackers(ledger):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    tracking = ledger()
    tracking.log([(1, {})])
    tracking.close()
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_damaged_file_of_trackers_is_an_error(tmp_path, console):
    (tmp_path / "trackers.json").write_text('{"wandb": 3}')
    with pytest.raises(ValueError, match=r"trackers.json: damaged: remove it, and the trackers st"):
        Tracking(tmp_path, [], console, name="a", config={}, resumed=True)
    Tracking(tmp_path, [], console, name="a", config={})
