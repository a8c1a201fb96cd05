"""A study that runs in this process: what it leaves, runs again, refuses, and survives."""

import json
import shutil
import signal

import pytest

from kdx.util.errors import Stopped, StudyError
from kdx.util.files import locked
from kdx_lab.executors.driving import asked_to_stop
from kdx_lab.executors.task import task_of
from kdx_lab.study.conduct import report
from tests.unit.kdx_lab.study import made
from tests.unit.kdx_lab.study.made import BASE, COMMAND, TEACHER


def results(grid) -> dict:
    return json.loads((grid.directory / "results.json").read_text())


def stamps(grid) -> list[int]:
    return [(cell.run_dir / "summary.json").stat().st_mtime_ns for cell in grid.cells]


def test_a_study_is_run_once(study, console, tmp_path):
    grid, run = study()
    assert run() == grid.directory == tmp_path / "runs/studies/digits/two"
    first, written = results(grid), stamps(grid)
    rows = {row["arm"]: row["outcome"] for row in first["rows"]}
    assert list(rows) == ["compact", "slow"]
    assert (first["finished"], first["planned"], first["command"]) == (4, 4, COMMAND)
    for cell in grid.cells:
        summary = json.loads((cell.run_dir / "summary.json").read_text())
        (row,) = (row for row in first["rows"] if row["arm"] == cell.arm)
        assert row["runs"][str(cell.seed)] == summary
    said = console.file.getvalue()
    assert "study    studies/digits/two: 4 runs, of which 0 are finished" in said
    assert "slow, seed 1: done in " in said
    assert "1 run is left, under a minute\n" in said
    assert f"```bash\n{COMMAND}\n```" in (grid.directory / "results.md").read_text()
    assert "device   cpu" in (grid.directory / "logs/two--slow--seed_1.txt").read_text()

    study()[1]()
    assert "4 runs, of which 4 are finished" in console.file.getvalue()
    assert (stamps(grid), results(grid)) == (written, first)

    with pytest.raises(ValueError, match=r"epochs: 1, now 2\n3 more runs differ\n"):
        study("overrides.epochs=2")[1]()
    assert stamps(grid) == written


def test_a_report_takes_no_runs_of_another_recipe_for_the_studys(study, console):
    plain = ("seeds=[0]", "arms=[compact]", "overrides.data.validation=64")
    grid, run = study(*plain)
    run()
    shutil.rmtree(grid.cells[0].run_dir / "checkpoints")  # recipe.yaml says it as well
    report(study(*plain, "overrides.log_every=7")[0], console)
    for changed in ("optimizer.lr=0.1", "select=best", "evaluate_every=2", "train_metrics=true"):
        other, _ = study(*plain, f"overrides.{changed}")
        with pytest.raises(ValueError, match=r"compact/seed_0 is finished, but its recipe differs"):
            report(other, console)


def test_a_run_that_fails_is_told_with_its_log_and_the_others_go_on(study, console):
    grid, run = study("arms.slow.overrides={optimizer.lr: 1.0e+30}", "seeds=[0]")
    log = grid.directory / "logs" / "two--slow--seed_0.txt"
    with pytest.raises(StudyError, match=r"1 run of studies/digits/two failed:\n  slow, seed 0: "):
        run()
    text = (grid.directory / "results.md").read_text()
    assert "Incomplete: 1 of 2 runs done" in text
    assert "- slow, seed 0: " in text
    assert f"(log: {log})" in text
    report(grid, console)
    assert "- slow, seed 0: " in (grid.directory / "results.md").read_text()
    assert f"slow, seed 0: {text[text.index('slow, seed 0: ') + 14 :].splitlines()[0][:20]}" in (
        console.file.getvalue()
    )


class Signalled(made.Here):
    def run(self, task):
        signal.raise_signal(signal.SIGTERM)
        return "its process was asked to stop"


def test_a_run_that_ends_without_results_has_failed(study, console, monkeypatch):
    monkeypatch.setattr("kdx_lab.executors.driving.DELAY", 0.0)
    grid, run = study("arms=[compact]", "seeds=[0]")
    (cell,) = grid.cells
    with pytest.raises(StudyError):
        run(made.Here(ends={cell.recipe.name: ""}))
    said = " ".join(console.file.getvalue().split())
    assert f"it ended without results in {cell.run_dir}" in said


def test_a_signal_stops_the_study_and_its_runs(study):
    grid, run = study()
    before, executor = signal.getsignal(signal.SIGTERM), Signalled()
    with pytest.raises(Stopped, match=r"^stopped by a signal, with 0 of 4 runs done$"):
        run(executor)
    assert signal.getsignal(signal.SIGTERM) == before
    assert executor.cancelled == [None]
    assert len(executor.seen) == 1
    assert results(grid)["finished"] == 0
    assert not results(grid)["rows"][0]["failures"]  # what the signal ended has not failed


def test_a_teacher_is_trained_once_and_first(study, tmp_path, console):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    more = ("overrides.losses=[{use: kd}]", "arms=[compact, compact+kd]", "seeds=[0]")
    grid, run = study(f"{TEACHER[:-1]}, allow_chance: true}}", *more)
    run(executor := made.Here())
    assert [task.name[-15:] for task in executor.seen] == [
        "t",
        "/compact/seed_0",
        "mpact-kd/seed_0",
    ]
    assert executor.seen[2].weights == {"teacher.weights": str(tmp_path / "runs/t")}
    assert "teacher  t is trained first" in console.file.getvalue()
    assert results(grid)["finished"] == 2


WRONG = "overrides.losses=[{use: hint, student_layer: nowhere, teacher_layer: nowhere}]"


def test_a_mistake_in_a_students_losses_is_found_before_its_teacher_is_trained(study, tmp_path):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    grid, run = study(TEACHER, WRONG, "arms=[compact, compact+kd]", "seeds=[0]")
    executor = made.Here()
    failed = r"1 run of .*\n  compact\+kd, seed 0: before its teacher is trained: .*nowhere"
    with pytest.raises(StudyError, match=failed):
        run(executor)
    assert [task.name[-15:] for task in executor.seen] == ["/compact/seed_0"]
    assert results(grid)["finished"] == 1
    assert "seed 0: before its teacher is trained: " in (grid.directory / "results.md").read_text()


def test_a_signal_stops_the_search_for_mistakes(study, tmp_path, monkeypatch):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    built = []

    def build(recipe, **options):
        built.append(recipe.name)
        signal.raise_signal(signal.SIGTERM)
        raise RuntimeError("of a plug-in")

    monkeypatch.setattr("kdx_lab.executors.driving.build", build)
    _, run = study(TEACHER, WRONG, "arms={compact+kd: , b: {arm: compact+kd}}", "baseline=b")
    with pytest.raises(Stopped, match=r"with 0 of 4 runs done$"):
        run(executor := made.Here())
    assert (len(built), executor.seen) == (1, [])


def test_a_teacher_that_fails_ends_the_study(study, tmp_path):
    (tmp_path / "digits/teacher.yaml").write_text(f"{BASE}name: t\n")
    more = ("overrides.losses=[{use: kd}]", "arms=[compact, compact+kd]", "seeds=[0]")
    _, run = study(TEACHER, *more)
    executor = made.Here({"t": "loss is nan"})
    with pytest.raises(StudyError, match=r"^teacher t: loss is nan \(log: .*logs/t.txt\)$"):
        run(executor)
    assert len(executor.seen) == 1


def test_each_cell_has_a_log_of_its_own(tmp_path):
    pairs = (("a-b", "c"), ("a", "b-c"))
    cells = [made.cell(tmp_path, f"name=study/{one}/{two}/seed_0") for one, two in pairs]
    logs = [task_of(each.recipe, tmp_path).log for each in cells]
    assert logs == [f"{tmp_path}/a-b--c--seed_0.txt", f"{tmp_path}/a--b-c--seed_0.txt"]


def test_a_study_is_not_for_a_launcher_of_several_processes(study, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"^WORLD_SIZE=2: .* set overrides.processes=2$"):
        study()[1]()


def test_a_report_of_nothing_says_so(study, console):
    grid, _ = study()
    report(grid, console)
    assert "No run is finished yet." in (grid.directory / "results.md").read_text()
    assert console.file.getvalue().count("waiting") == 2


def test_signals_are_left_as_they_were():
    before = signal.getsignal(signal.SIGTERM)  # a job in the background may ignore SIGINT
    with asked_to_stop() as asked:
        signal.raise_signal(signal.SIGTERM)
    assert asked == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_study_in_the_directory_of_a_run_is_refused(study, tmp_path):
    run_dir = tmp_path / "runs" / "studies" / "digits"
    (run_dir / "checkpoints" / "epoch_0001").mkdir(parents=True)
    (run_dir / "checkpoints" / "epoch_0001" / "manifest.json").touch()
    (run_dir / "recipe.yaml").touch()
    grid, conduct = study()
    with pytest.raises(FileExistsError, match=r"seed_0 lies in the run .*/runs/studies/digits, w"):
        conduct()
    assert not grid.directory.exists()


def test_a_study_that_runs_already_is_refused(study):
    grid, conduct = study()
    grid.directory.parent.mkdir(parents=True)
    with (
        locked(grid.directory.with_name(".two.lock")),
        pytest.raises(FileExistsError, match=r"runs/studies/digits/two: another `kdx study` runs"),
    ):
        conduct()


def test_a_title_like_markup_is_printed(study, console):
    grid, conduct = study("title='[/v2] :smile:'", "seeds=[0]", "name=studies/x")
    conduct()
    assert "[/v2] :smile: " in console.file.getvalue()
    assert "[/v2] :smile:" in (grid.directory / "report.html").read_text()
