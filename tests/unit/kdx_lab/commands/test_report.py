"""`kdx report`: which page it writes, and what it refuses."""

from pathlib import Path

import pytest

from kdx.commands.main import main
from kdx_lab.study.collecting import collect
from kdx_lab.study.results import write_results
from tests.unit.kdx.report.made import made
from tests.unit.kdx_lab.study.made import cell


@pytest.fixture
def run(tmp_path):
    return made(tmp_path / "run")


def test_a_run_and_several_have_their_pages(run, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(run), "-o", str(page)]) == 0
    assert capsys.readouterr().out == f"report   {page}\n"
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert main(["report", str(run), str(made(tmp_path / "other"))]) == 0
    assert capsys.readouterr().out == f"report   {tmp_path / 'comparison.html'}\n"


def test_a_study_has_its_page(tmp_path, capsys):
    write_results(tmp_path, collect([cell(tmp_path)], baseline="compact"), title="A study")
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"report   {tmp_path / 'report.html'}\n"
    assert "<h1>A study</h1>" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (["."], "not a run: it has no recipe.yaml, and no results.json of a study"),
        (["study"], "results.json: damaged: title: is missing"),
        (["run", "study"], "a study cannot be compared: give runs, or one study"),
        (["study", "-o", "a.txt"], "results.json: damaged"),
        (["no_run"], "no_run: no such directory"),
        (["run", "-o", "run/recipe.yaml"], "the page is an HTML file"),
    ],
)
def test_other_places_are_refused(run, places, message, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    Path("study").mkdir()
    Path("study/results.json").write_text("{}", encoding="utf-8")
    assert main(["report", *places]) == 2
    assert message in capsys.readouterr().err
