import json
from math import sqrt

import pytest

from kdx_lab.study.collecting import collect
from kdx_lab.study.results import kept_failures, write_results
from tests.unit.kdx_lab.study.made import cell, finished


@pytest.fixture
def written(tmp_path):
    """Return a function: the Markdown and the JSON of cells."""

    def write(cells, *, failures=None, errors=False, **told):
        results = collect(cells, baseline="compact", failures=failures, errors=errors)
        path = write_results(tmp_path / "out", results, title="A study", **told)
        assert path == tmp_path / "out" / "results.md"
        return path.read_text(), json.loads((tmp_path / "out" / "results.json").read_text())

    return write


def grid(root, *, settings=("",), scores=((0.5, 0.52), (0.51, 0.54)), **more):
    return [
        finished(root, arm, seed, score, setting=setting, **more)
        for setting in settings
        for arm, of_arm in zip(("compact", "cl"), scores, strict=True)
        for seed, score in enumerate(of_arm)
    ]


def headings(text):
    return [line for line in text.splitlines() if line.startswith("#")]


def test_the_document_of_one_setting(tmp_path, written):
    text, _ = written(grid(tmp_path), description="What for.\n", command="python x.py")
    assert text.startswith("# A study\n\nWhat for.\n\n## Results\n\n| arm     |   n |")
    assert headings(text)[1:] == [
        "## Results", "## What the numbers mean", "## Where it ran", "## Command",
    ]  # fmt: skip
    assert "Incomplete" not in text
    assert "the exported student (last epoch) on the 360 test images" in text
    assert "multiple comparisons (here 1): of 20 such intervals" in text
    assert text.endswith(
        "- device: cpu\n- processes: 2\n\n## Command\n\n```bash\npython x.py\n```\n"
    )


def test_the_figures_are_in_a_page_beside_the_document(tmp_path, written):
    text, _ = written(grid(tmp_path))
    assert "\n\nFigures: [report.html](report.html)\n\n" in text
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["report.html", "results.json", "results.md"]


def test_several_settings_begin_with_all_at_a_glance(tmp_path, written):
    text, _ = written(grid(tmp_path, settings=("k 3", "k 5")))
    assert headings(text)[1:4] == ["## All settings", "## k 3", "## k 5"]
    assert "(here 2)" in text


def test_one_seed_gives_no_interval(tmp_path, written):
    text, _ = written(grid(tmp_path, scores=((0.5,), (0.51,))))
    assert "One seed gives no interval." in text
    assert "confidence" not in text


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("{train: 64}", "over seeds, on these test images only, and is not"),
        ("{test: 64}", "over seeds, each with its own test images, and is not"),
        ("64", "over seeds, each with its own test images, and is not"),
    ],
)
def test_the_interval_is_of_the_test_images_that_seeds_have(tmp_path, written, limit, said):
    cells = [
        finished(tmp_path, arm, seed, 0.5, f"data.limit={limit}")
        for arm in ("compact", "cl")
        for seed in (0, 1)
    ]
    assert said in written(cells)[0]


def test_the_train_metric_is_of_the_labels_that_are_trained_on(tmp_path, written):
    noisy = finished(tmp_path, "compact", 0, 0.5, "data.label_noise=0.5", train={"top1": 0.25})
    text, _ = written([noisy])
    assert "labels are random (data.label_noise) and count as true" in text
    plain = finished(tmp_path, "compact", 1, 0.5, train={"top1": 0.25})
    assert "are random" not in written([plain])[0]


def test_failures_are_known_until_they_are_not(tmp_path, written):
    failures = {"k 3, ck, seed 1": "loss is nan"}
    cells = [finished(tmp_path, "compact", 0, 0.5, setting="k 3"),
             cell(tmp_path, setting="k 3", arm="ck", seed=1)]  # fmt: skip
    assert kept_failures(tmp_path / "out") == {}
    written(cells, failures=failures)
    assert kept_failures(tmp_path / "out") == failures
    (tmp_path / "out" / "results.json").write_text("[]")
    assert kept_failures(tmp_path / "out") == {}


def test_a_study_half_done(tmp_path, written):
    cells = [*grid(tmp_path), *(cell(tmp_path, arm="ck", seed=seed) for seed in (0, 1))]
    text, data = written(cells, failures={"ck, seed 1": "TrainingError: loss\n  is nan"})
    assert "**Incomplete: 4 of 6 runs done.**" in text
    assert "## Failures\n\n- ck, seed 1: TrainingError: loss is nan\n" in text
    assert (data["finished"], data["planned"]) == (4, 6)
    assert data["rows"][2]["outcome"] is None
    assert data["rows"][2]["failures"] == {"1": "TrainingError: loss\n  is nan"}


def test_a_study_not_begun(tmp_path, written):
    text, data = written([cell(tmp_path)])
    assert "No run is finished yet." in text
    assert data["rows"][0]["runs"] == {}


def test_errors_and_a_choice_on_test_are_explained(tmp_path, written):
    text, data = written(grid(tmp_path, evaluated_on="test", train={"top1": 1.0}), errors=True)
    assert "lower is better, and a negative Δ is a gain" in text
    assert "A best epoch chosen on the test images is an optimistic figure" in text
    assert "Train: the last epoch" in text
    assert data["errors"] is True
    assert data["rows"][1]["outcome"]["difference"]["mean"] == pytest.approx(-0.015)


@pytest.mark.parametrize(("second", "said"), [(0.75, "75.00%"), (0.5, "50.00 to 75.00%")])
def test_the_teacher_is_said_once(tmp_path, written, second, said):
    cells = [finished(tmp_path, "compact", 0, 0.5)]
    cells += [finished(tmp_path, arm, 0, 0.5, teacher={"top1": top1})
              for arm, top1 in (("kd", 0.75), ("cl+kd", second))]  # fmt: skip
    text, _ = written(cells)
    assert text.count("Teacher: ") == 1
    assert f"Teacher: top-1 {said} on validation." in text


def test_where_runs_differ_every_place_is_named(tmp_path, written):
    places = [{"torch": "2.14"}, {"torch": "2.15"}, {"gpu": 1}]
    cells = [
        finished(tmp_path, "compact", seed, 0.5, environment=place)
        for seed, place in enumerate(places)
    ]
    text, _ = written(cells)
    assert "- torch: 2.14 (1 run), 2.15 (1 run), unknown (1 run)\n" in text
    assert "- gpu: unknown (2 runs), 1 (1 run)\n" in text


def test_the_json_holds_every_value(tmp_path, written):
    _, data = written(grid(tmp_path), description="What for.", command="x")
    assert data["meaning"][0].startswith("n: finished seeds. Metrics are in percent: mean over")
    assert data["verdict"][0].startswith("cl is best, 52.50, +1.50 [-4.85, +7.85] to the next, com")
    assert {k: v for k, v in data.items() if k not in ("rows", "verdict", "meaning")} == {
        "format": 1, "title": "A study", "description": "What for.", "command": "x",
        "baseline": "compact", "errors": False, "confidence": 0.95, "planned": 4, "finished": 4,
    }  # fmt: skip
    compact, cl = data["rows"]
    assert (cl["setting"], cl["arm"], cl["planned"], cl["failures"]) == ("", "cl", [0, 1], {})
    assert compact["outcome"]["difference"] is None
    outcome = cl["outcome"]
    assert (outcome["metric"], outcome["evaluated_on"]) == ("top1", "validation")
    assert outcome["test"]["values"] == {"0": 0.51, "1": 0.54}
    assert outcome["test"]["std"] == pytest.approx(0.03 / sqrt(2))
    assert outcome["difference"]["values"] == pytest.approx({"0": 0.01, "1": 0.02})
    assert outcome["others"]["top5"] == {"values": {"0": 0.9, "1": 0.9}, "mean": 0.9, "std": 0.0}
    assert cl["runs"]["1"]["test"] == {"top1": 0.54, "top5": 0.9}


def test_what_is_no_number_is_null_in_it(tmp_path, written):
    more = {"last": {"top1": 0.5, "loss": float("nan")}, "best": {"top1": 0.5, "x": float("inf")}}
    _, data = written([finished(tmp_path, "compact", 0, 0.5, **more)])
    run = data["rows"][0]["runs"]["0"]
    assert (run["last"], run["best"]) == ({"top1": 0.5, "loss": None}, {"top1": 0.5, "x": None})
