"""The command line of studies: what it lists, reports and refuses."""

import runpy
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"
BASE = """\
data: {use: digits, limit: 64, batch_size: 32}
student: {use: smallnet}
epochs: 2
"""
STUDY = "recipe: base.yaml\nseeds: [0, 1]\narms: [compact]\n"


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Return a function: a tool and its arguments to its exit code and what it prints."""
    monkeypatch.chdir(tmp_path)
    Path("base.yaml").write_text(BASE, encoding="utf-8")
    Path("study.yaml").write_text(STUDY, encoding="utf-8")

    def tool(name: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        with pytest.raises(SystemExit) as exited:
            runpy.run_path(str(TOOLS / f"{name}.py"), run_name="__main__")
        printed = capsys.readouterr()
        return exited.value.code, printed.out + printed.err

    return tool


def test_a_dry_run_lists_the_runs_and_writes_nothing(tool, tmp_path):
    code, said = tool("study", "study.yaml", "--dry-run", "name=mine")
    assert code == 0
    assert "2 runs: 1 with seeds 0, 1, below runs/mine" in said
    assert not (tmp_path / "runs").exists()


def test_a_report_of_nothing_says_so_and_what_runs_the_study(tool, tmp_path):
    code, said = tool("study", "study.yaml", "--report", "seeds=[7]", "name=mine")
    assert code == 0
    assert "waiting" in said
    assert "results  runs/mine/results.md" in said
    text = (tmp_path / "runs/mine/results.md").read_text()
    assert "**Incomplete: 0 of 1 run done.**" in text
    assert "No run is finished yet." in text
    assert "```bash\nkdx study study.yaml 'seeds=[7]' name=mine\n```" in text


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("study", ["study.yaml", "--jobs", "0"], "--jobs 0: must be 1 or more"),
        ("study", ["absent.yaml"], "absent.yaml: cannot be read: No such file"),
        ("study", ["base.yaml"], "this is a recipe, not a study: run it with `kdx distill`"),
        ("distill", ["study.yaml"], "this is a study, not a recipe: run it with `kdx study`"),
        (
            "study",
            ["study.yaml", "arms.1=compct"],
            "arms.compct: 'compct' is not a built-in arm",
        ),
        ("study", ["study.yaml", "seed=[1]"], "unknown key. Did you mean 'seeds'?"),
        ("study", ["study.yaml", "epochs=3"], "is a key of recipes: set it below `overrides`"),
    ],
)
def test_mistakes_are_told_in_a_line_that_helps(tool, name, arguments, said):
    code, printed = tool(name, *arguments)
    assert code == 2
    assert said in printed
    assert "Traceback" not in printed
