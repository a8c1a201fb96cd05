import json

import numpy as np
import pytest
from PIL import Image

from kdx_lab.study import plots
from kdx_lab.study.collecting import collect
from kdx_lab.study.results import write_results
from tests.unit.kdx_lab.study.made import cell, finished

CURVES = {"compact": [(0.25, 0.5), (0.25, 0.75)], "cl": [(0.5, 0.75)] * 2}


@pytest.fixture
def results(tmp_path):
    cells = [
        finished(tmp_path, arm, seed, curve[-1], setting=setting, curve=curve)
        for setting in ("k 3", "k 5")
        for arm, curves in CURVES.items()
        for seed, curve in enumerate(curves)
    ]
    return collect([*cells, cell(tmp_path, setting="k 7")], baseline="compact")


@pytest.fixture
def figures(monkeypatch):
    """Return the figures by name, which are kept in place of being written."""
    kept = {}

    def keep(figure, path):
        kept[path.stem] = figure
        return path

    monkeypatch.setattr(plots, "write", keep)
    return kept


def shown(figure):
    return [axes for axes in figure.axes if axes.get_visible()]


def test_the_files_and_where_the_document_shows_them(tmp_path, results):
    out = tmp_path / "out"
    board = out / "plots" / "tensorboard"
    board.mkdir(parents=True)
    (board / "earlier").touch()
    (out / "plots" / "earlier.png").touch()
    names = ["differences", "accuracy", "curves", "losses"]
    text = write_results(out, results, title="Digits").read_text()
    assert "\n\n".join(f"![{name}](plots/{name}.png)" for name in names) in text
    expected = sorted([*(f"{name}.png" for name in names), "tensorboard"])
    assert sorted(path.name for path in (out / "plots").iterdir()) == expected
    assert len(list(board.iterdir())) == len(names)  # those of an earlier state are gone
    for name in names:
        pixels = np.asarray(Image.open(out / "plots" / f"{name}.png").convert("L"))
        assert pixels.std() > 5


def test_differences_in_points_around_zero(tmp_path, results, figures):
    plots.draw(tmp_path, results)
    figure = figures["differences"]
    assert [axes.get_title() for axes in shown(figure)] == ["k 3", "k 5"]
    axes = shown(figure)[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cl"]
    mean, *_, seeds, zero = axes.lines
    assert list(mean.get_xdata()) == [12.5]
    assert sorted(seeds.get_xdata()) == [0, 25]
    assert list(zero.get_xdata()) == [0, 0]
    assert len({each.get_xlim() for each in shown(figure)}) == 1
    assert figure.get_supxlabel().startswith("difference of test top-1 to compact (percentage")


def test_every_seeds_value_in_percent(tmp_path, results, figures):
    plots.draw(tmp_path, results)
    axes = shown(figures["accuracy"])[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["compact", "cl"]
    assert axes.get_ylim() == (1.5, -0.5)  # the first arm uppermost
    points = [list(line.get_xdata()) for line in axes.lines]
    assert [62.5] in points
    assert [50, 75] in points


@pytest.mark.parametrize(
    ("errors", "values", "label"),
    [(False, [25, 62.5], "validation top-1 (%)"), (True, [75, 37.5], "validation top-1 error (%)")],
)
def test_curves_are_means_by_epoch(tmp_path, results, figures, errors, values, label):
    cells = [each for row in results.rows for each in row.cells.values()]
    plots.draw(tmp_path, collect(cells, baseline="compact", errors=errors))
    figure = figures["curves"]
    compact, _ = shown(figure)[0].lines
    assert list(compact.get_xdata()) == [1, 2]
    assert list(compact.get_ydata()) == values
    below = "epoch\nmean over the seeds, band: one standard deviation"
    assert (figure.get_supxlabel(), figure.get_supylabel()) == (below, label)
    assert [text.get_text() for text in figure.legends[0].texts] == ["compact", "cl"]
    compact, _ = shown(figures["losses"])[0].lines
    assert list(compact.get_ydata()) == [1.75, 1.375]


def test_an_arm_keeps_its_colour_with_a_teacher(tmp_path, figures):
    arms = ("compact", "cl", "compact+kd", "cl+init", "cl+init+kd", "ck")
    cells = [finished(tmp_path, arm, 0, 0.5, curve=[0.25, 0.5]) for arm in arms]
    plots.draw(tmp_path, collect(cells, baseline="compact"))
    lines = dict(zip(arms, shown(figures["curves"])[0].lines, strict=True))
    colors = {arm: line.get_color() for arm, line in lines.items()}
    assert colors["compact"] == colors["compact+kd"]
    assert colors["cl"] == colors["cl+init"] == colors["cl+init+kd"]
    assert len(set(colors.values())) == 3
    assert len({(line.get_color(), line.get_linestyle()) for line in lines.values()}) == len(arms)


def test_epochs_that_a_seed_lacks_are_left_out(tmp_path, figures):
    cells = [finished(tmp_path, "compact", n, 0.5, curve=[0.25] * (3 + n)) for n in (0, 1)]
    lines = [{"epoch": 4, "validation/top1": float("nan")}, {"epoch": 5, "loss/total": 1.0}]
    with (cells[0].run_dir / "metrics.jsonl").open("a") as file:
        file.writelines(f"{json.dumps(line)}\n" for line in lines)
    plots.draw(tmp_path, collect(cells, baseline="compact"))
    (line,) = shown(figures["curves"])[0].lines
    assert list(line.get_xdata()) == [1, 2, 3]
    assert sorted(figures) == ["accuracy", "curves", "losses"]


def test_runs_without_metrics_have_no_curves_and_none_no_plots(tmp_path, figures):
    done = finished(tmp_path, "compact", 0, 0.5)
    (done.run_dir / "metrics.jsonl").unlink()
    assert plots.draw(tmp_path, collect([done], baseline="compact")) == [tmp_path / "accuracy.png"]
    assert plots.draw(tmp_path, collect([cell(tmp_path, seed=1)], baseline="compact")) == []


@pytest.mark.parametrize(
    ("settings", "grid"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 2)), (12, (3, 4))]
)
def test_settings_wrap_into_lines(tmp_path, figures, settings, grid):
    cells = [finished(tmp_path, "compact", 0, 0.5, setting=f"k {n}") for n in range(settings)]
    plots.draw(tmp_path, collect(cells, baseline="compact"))
    axes = shown(figures["accuracy"])
    assert len(axes) == settings
    shape = axes[0].get_subplotspec().get_gridspec().get_geometry()
    assert shape == grid
    named = [n for n, each in enumerate(axes) if each.get_yticklabels()[0].get_text()]
    assert named == list(range(0, settings, grid[1]))  # the first of each line names the arms
