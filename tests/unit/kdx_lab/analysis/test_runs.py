import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kdx_lab.analysis.runs import Run, find_runs, grouped, output_of


def found(*places):
    return find_runs(places, plugins=["tests.toys"])


def test_a_directory_stands_for_the_finished_runs_below_it(study, tmp_path):
    runs = found(study)
    paths = [str(run.path.relative_to(study)) for run in runs]
    assert paths == ["compact/seed_0", "compact/seed_1", "init/seed_0"]
    assert [run.path for run in found(study / "init", study)] == [
        runs[2].path, runs[0].path, runs[1].path
    ]  # fmt: skip
    assert runs[0].metrics()[1]["epoch"] == 2
    assert (runs[0].stage_ends, runs[2].stage_ends) == ([], [1])


def test_seeds_go_by_number_and_runs_that_stand_aside_are_left_out(study, tmp_path):
    for name in ("seed_10", "seed_9", "seed_1.replaced", "tune/trial_000"):
        shutil.copytree(study / "compact" / "seed_0", tmp_path / name)
    assert [run.path.name for run in found(tmp_path)] == ["seed_9", "seed_10"]


def test_runs_that_differ_in_seed_and_name_alone_are_a_group(study):
    groups = grouped(found(study))
    assert [group.heading for group in groups] == ["compact (n = 2)", "init (n = 1)"]
    assert groups[0].about["runs"] == [str(study / "compact" / f"seed_{n}") for n in (0, 1)]


def test_runs_that_differ_in_threads_alone_are_a_group_and_one_named_twice_is_one(
    study, compact, recipe, monkeypatch
):
    runs = [
        Run(Path(f"{threads}"), recipe(f"threads={threads}", "seed=0"), compact.summary)
        for threads in (1, 2)
    ]
    assert [group.heading[-7:] for group in grouped(runs)] == ["(n = 2)"]
    monkeypatch.chdir(study.parent)
    assert len(found(study / "init", Path("tiny/init/seed_0"))) == 1


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["studies/a/k/seed_0", "studies/a/ck/seed_0"], ["k", "ck"]),
        (["studies/a/7/k/seed_0", "studies/a/9/k/seed_1"], ["7, k", "9, k"]),
        (["studies/a/7/k/seed_0", "studies/a/7/ck/seed_1"], ["k", "ck"]),
        (["studies/a/k/seed_0", "studies/b/k/seed_0"], ["a, k", "b, k"]),
        (["studies/a/k/seed_0", "digits/k"], ["k", "digits/k"]),
        (["studies/a/k/seed_0", "studies/a/k/seed_1"], [f"studies/a/k/seed_{n}" for n in (0, 1)]),
        (["studies/odd", "studies/a/k/3"], ["studies/odd", "studies/a/k/3"]),
    ],
)
def test_labels_say_what_tells_groups_apart(compact, recipe, names, labels):
    runs = [
        Run(Path(name), recipe(f"name={name}", f"epochs={3 + index}"), compact.summary)
        for index, name in enumerate(names)
    ]
    assert [group.label for group in grouped(runs)] == labels


def test_figures_go_to_the_run_or_to_what_all_have_in_common(compact, expanded):
    assert output_of([compact]) == compact.path / "analysis"
    assert output_of([compact, expanded]) == compact.path.parents[1] / "analysis"


def test_what_is_no_finished_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"absent: no such directory: give one that is"):
        found(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"no finished run \(with summary.json and student.safe"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("content", "problem"), [(None, "missing or empty"), ("{", "damaged"), ("\n", "damaged")]
)
def test_a_run_without_metrics_is_refused(compact, tmp_path, content, problem):
    if content:
        (tmp_path / "metrics.jsonl").write_text(content)
    with pytest.raises(ValueError, match=rf"metrics.jsonl: {problem}: "):
        replace(compact, path=tmp_path).metrics()
