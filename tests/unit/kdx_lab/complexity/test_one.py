"""The table of one recipe's networks, and the command line."""

import io
import json
import sys
from dataclasses import replace

import pytest
from rich.console import Console

from kdx_lab.complexity import one
from kdx_lab.complexity.one import examine
from kdx_lab.complexity.paper import rebuild
from kdx_lab.complexity.table13 import TABLE
from kdx_lab.complexity.variants import named
from tools import complexity


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=60)


@pytest.fixture(scope="module")
def smallnet():
    return named("smallnet", ["kernel_size=7", "transforms.0.preset=cl"])[1]


def test_the_table_and_the_same_as_data(console, smallnet):
    result = examine("SmallNet", smallnet, console, rounds=1, measure=False)
    lines = console.file.getvalue().splitlines()
    assert lines[0] == "SmallNet, batches of 128 x 3 x 32 x 32"
    rows = {line.split("  ")[0].strip(): line.split()[-6:] for line in lines}
    assert rows["trained, unfolded"] == ["547,102", "57.49M", "57.35M", "172.05M", "75.2", "MB"]
    assert rows["compact"] == ["66,186", "4.49M", "4.45M", "12.14M", "23.5", "MB"]
    assert "FLOPs without ReLU and MaxPool2d: the paper's network calls them" in lines[-1]
    assert result["batch"] == [128, 3, 32, 32]
    assert result["networks"]["compact"]["counts"]["flops"] == 4_491_904
    assert result["networks"]["folded"]["counts"]["parameters"] == 547_102
    assert "measured" not in result


def test_speeds_are_measured_on_as_many_images_as_take_seconds(console, smallnet, monkeypatch):
    monkeypatch.setattr(one, "BUDGET", 5 * 172.1e6)  # of the unfolded chain
    result = examine("SmallNet", smallnet, console, rounds=1)
    assert result["measured"]["batch"] == (5, 3, 32, 32)
    assert set(result["measured"]["forward"]) == {"unfolded", "folded", "compact"}
    assert min(result["measured"]["training"].values()) > 0
    assert "Speeds: on 5 x 3 x 32 x 32" in console.file.getvalue()
    assert "1 round, their median" in console.file.getvalue()


def test_what_takes_long_is_measured_only_when_asked_for(console, monkeypatch):
    monkeypatch.setattr(one, "BUDGET", 1e6)
    compact = named("smallnet", ["transforms=[]"])[1]
    assert "measured" not in examine("SmallNet", compact, console, rounds=1)
    assert "--measure does so" in console.file.getvalue()
    result = examine("SmallNet", compact, console, rounds=1, measure=True)
    assert result["measured"]["batch"] == (2, 3, 32, 32)
    with pytest.raises(ValueError, match=r"rounds: 0 should be 1 or more"):
        examine("SmallNet", compact, console, rounds=0, measure=True)


def test_what_does_not_fit_into_memory_is_not_measured(console, smallnet, monkeypatch):
    monkeypatch.setattr("kdx.launch.memory.os.sysconf", lambda name: 1000)
    with pytest.raises(ValueError, match=r"measuring 128 images: 75.2 MB, but .* has 1 MB"):
        examine("SmallNet", smallnet, console, rounds=1)


def tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["complexity.py", *map(str, arguments)])
    complexity.main()


def test_the_tool_counts_a_network(monkeypatch, tmp_path, capsys):
    what = ("--network", "smallnet4", "transforms=[]", "kernel_size=5", "--image", "1x28x28")
    tool(monkeypatch, *what, "--no-measure", "--json", tmp_path / "a.json")
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["name"] == "smallnet4 transforms=[] kernel_size=5"
    assert written["batch"] == [128, 1, 28, 28]
    assert "compact" in capsys.readouterr().out


def test_the_tool_counts_a_recipe(monkeypatch, tmp_path, capsys):
    path = tmp_path / "x" / "digits.yaml"
    path.parent.mkdir()
    path.write_text("data: {use: digits}\nstudent: {use: smallnet}\n")
    tool(monkeypatch, path, "data.batch_size=16", "--no-measure")
    assert "x/digits, batches of 16 x 1 x 32 x 32" in capsys.readouterr().out


def test_the_tool_fails_where_a_figure_is_not_the_papers(monkeypatch, tmp_path, capsys):
    wrong = replace(TABLE[0], parameters="0.08", expansions=())

    def one_row(console, **options):
        return rebuild(console, rows=[wrong], **options)

    monkeypatch.setattr("kdx_lab.complexity.paper.rebuild", one_row)
    with pytest.raises(SystemExit) as stopped:
        tool(monkeypatch, "--paper", "--json", tmp_path / "a.json")
    assert stopped.value.code == 1
    assert "parameters: the paper has 0.08M, here it is 0.07M" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.json").read_text())["differences"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a recipe, or a network by --network, or pass --paper alone"),
        (("a.yaml", "--paper"), "pass --paper alone"),
        (("--network", "unet", "--image", "3x9"), "argument --image: invalid image value: '3x9'"),
    ],
)
def test_the_tool_refuses_what_it_cannot_do(monkeypatch, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        tool(monkeypatch, *arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
