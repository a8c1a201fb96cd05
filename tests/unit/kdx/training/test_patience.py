"""Early stopping: at which epoch a run ends, and what it says of that."""

import json

import pytest
from rich.console import Console

from kdx.recipe import RecipeError
from kdx.report.summary import read_summary
from kdx.run.run import run
from kdx.training.runtime import Runtime

ACCURACIES = [0.2, 0.5, 0.5, 0.4, 0.6, 0.6, 0.1, 0.3, 0.9, 1.0]


@pytest.fixture
def lines(recipe, monkeypatch):
    """Return a function: overrides to the run and its epochs, with accuracies as above."""

    def lines(*overrides):
        left, evaluate = iter(ACCURACIES), Runtime.evaluate

        def scripted(self, network, source, observe=()):
            found = evaluate(self, network, source, observe)
            if source is self.job.splits.validation and network is self.job.student:
                found.metrics["top1"] = next(left, 1.0)
            return found

        what = recipe("data.validation=16", "data.limit={train: 32, test: 8}", *overrides)
        with monkeypatch.context() as patched:
            patched.setattr(Runtime, "evaluate", scripted)
            patched.setattr("kdx.run.finish.metric_tolerances", lambda *_: {"top1": 2.0})
            place = run(what, Console(quiet=True))
        text = (place / "metrics.jsonl").read_text()
        return place, [json.loads(line) for line in text.splitlines()]

    return lines


@pytest.mark.parametrize(("patience", "ends", "best"), [(1, 3, 2), (3, 8, 5), (9, 9, 9)])
def test_the_run_ends_after_so_many_epochs_without_improvement(lines, patience, ends, best):
    place, epochs = lines("epochs=9", f"patience={patience}", "schedule={use: cosine}")
    assert len(epochs) == ends
    summary = read_summary(place)
    assert (summary.epochs, summary.best_epoch) == (ends, best)
    said = f"after epoch {ends}; validation top-1 has not improved"
    if ends < 9:
        assert summary.stopped_early.startswith(said)
        assert f"Stopped early: {said}" in (place / "report.md").read_text()
    else:
        assert summary.stopped_early is None
        assert "Stopped early" not in (place / "report.md").read_text()
    _, whole = lines("epochs=9", "name=whole", "schedule={use: cosine}")
    rates = [epoch["learning_rate"] for epoch in whole]
    assert [epoch["learning_rate"] for epoch in epochs] == rates[:ends]


def test_epochs_that_are_not_evaluated_do_not_count(lines):
    _, epochs = lines("epochs=9", "patience=2", "evaluate_every=2")
    assert len(epochs) == 8  # 0.2 and 0.5 after 2 and 4, 0.5 and 0.4 after 6 and 8
    assert [e["epoch"] for e in epochs if "validation/top1" in e] == [2, 4, 6, 8]


def test_only_the_last_stage_ends_early(lines):
    place, epochs = lines("patience=1", "stages=[{name: a, epochs: 4}, {name: b, epochs: 5}]")
    assert [epoch["stage"] for epoch in epochs] == ["a"] * 4 + ["b"] * 2
    said = "after epoch 6; validation top-1 has not improved in 1 evaluation (patience) since"
    assert read_summary(place).stopped_early.startswith(said)


def test_patience_needs_a_validation_split(recipe):
    with pytest.raises(RecipeError, match=r"patience: needs `data.validation`, images to measure"):
        recipe("patience=3")
