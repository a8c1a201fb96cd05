from itertools import product

import pytest
import torch

from kdx.commands.evaluate import evaluate
from kdx_lab.analysis.grid import LandscapeGrid
from kdx_lab.analysis.landscape import analyze_landscape
from kdx_lab.analysis.runs import grouped

SMALL = {"points": 3, "images": 64}


@pytest.fixture
def landscape(console, monkeypatch):
    """Return a function: the landscapes of a run, measured again, without their figure."""

    def measured(run, tmp_path, **options):
        caught = []
        monkeypatch.setattr(
            "kdx_lab.analysis.landscape.draw_curves",
            lambda groups, found, *rest: caught.append(found),
        )
        (run.analysis / "losses_1d.json").unlink(missing_ok=True)
        analyze_landscape(grouped([run]), tmp_path, console, **options)
        return caught[0][0][0]

    return measured


def test_in_the_middle_both_networks_have_the_loss_of_the_runs_own_evaluation(
    expanded, landscape, tmp_path
):
    found = landscape(expanded, tmp_path, **SMALL)
    own = evaluate(expanded.path, split="train")
    assert own.images == found["compact"]["images"] == 64
    for network in ("compact", "trained"):
        assert found[network]["loss"][1] == pytest.approx(own.metrics["loss"], rel=1e-4)
        assert found[network]["error"][1] == pytest.approx(1 - own.metrics["top1"])
    assert found["compact"]["loss"][0] != pytest.approx(found["trained"]["loss"][0], rel=1e-2)
    assert found["trained"]["parameters"] == expanded.summary.parameters["trained"]


def test_an_exported_average_is_what_was_trained(averaged, landscape, tmp_path):
    found = landscape(averaged, tmp_path, **SMALL)
    own = evaluate(averaged.path, split="train")
    assert found["compact"]["loss"][1] == pytest.approx(own.metrics["loss"], rel=1e-4)
    assert found["trained"] == found["compact"]


def test_refitted_statistics_are_those_of_the_images(compact, landscape, tmp_path):
    fixed = landscape(compact, tmp_path, **SMALL)
    refit = landscape(compact, tmp_path, **SMALL, batchnorm="refit")
    assert fixed["trained"] == fixed["compact"]
    assert fixed["compact"]["loss"] != refit["compact"]["loss"]
    assert all(torch.tensor(each["compact"]["loss"]).isfinite().all() for each in (fixed, refit))


def test_a_landscape_that_is_kept_is_used_while_nothing_has_changed(
    compact, console, tmp_path, monkeypatch
):
    monkeypatch.setattr("kdx_lab.analysis.landscape.draw_curves", lambda *given: given[1])
    groups = grouped([compact])
    first = analyze_landscape(groups, tmp_path, console, **SMALL)
    with monkeypatch.context() as patch:
        patch.delattr("kdx_lab.analysis.landscape.open_run")
        assert analyze_landscape(groups, tmp_path, console, **SMALL) == first
    assert analyze_landscape(groups, tmp_path, console, **SMALL, seed=1) != first


def test_a_grid_has_the_network_in_its_middle():
    grid = LandscapeGrid(dims=2, points=5, span=0.5)
    assert grid.line == [-0.5, -0.25, 0.0, 0.25, 0.5]
    assert grid.places == list(product(grid.line, grid.line))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"points": 24}, r"--points 24: must be an odd number of 3 or more, so that the middle"),
        ({"points": 1}, r"--points 1: must be an odd number"),
        ({"images": 0}, r"--images 0, --span 1.0: both must be more than 0"),
        ({"span": float("nan")}, r"--span nan: both must be more than 0"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        LandscapeGrid(**options)


def test_a_task_that_reports_no_loss_is_refused(compact, landscape, tmp_path, monkeypatch):
    from kdx.training.evaluation import Evaluation

    lossless = Evaluation({"top1": 0.5}, None)
    monkeypatch.setattr("kdx.training.runtime.Runtime.evaluate", lambda *given: lossless)
    with pytest.raises(ValueError, match=r"its task reports no loss, only top1: a landscape"):
        landscape(compact, tmp_path, **SMALL)


def test_a_run_without_the_exported_checkpoint_is_refused(compact, console, tmp_path, monkeypatch):
    monkeypatch.setattr("kdx_lab.analysis.landscape.kept_epochs", lambda run: {1: tmp_path})
    with pytest.raises(ValueError, match=r"checkpoints: no checkpoint of epoch 2, which"):
        analyze_landscape(grouped([compact]), tmp_path, console)
