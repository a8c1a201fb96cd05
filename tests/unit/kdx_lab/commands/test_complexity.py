"""`kdx complexity`: what it counts, writes and refuses."""

import json
from dataclasses import replace

import pytest

from kdx_lab.commands import complexity
from kdx_lab.complexity.paper import rebuild
from kdx_lab.complexity.table13 import TABLE


def test_it_counts_a_network(run, tmp_path, capsys):
    what = ("--network", "smallnet4", "transforms=[]", "kernel_size=5", "--image", "1x28x28")
    assert run(complexity, *what, "--no-measure", "--json", tmp_path / "a.json") == 0
    written = json.loads((tmp_path / "a.json").read_text())
    assert written["name"] == "smallnet4 transforms=[] kernel_size=5"
    assert written["batch"] == [128, 1, 28, 28]
    assert "compact" in capsys.readouterr().out


def test_it_counts_a_recipe(run, tmp_path, capsys):
    path = tmp_path / "x" / "digits.yaml"
    path.parent.mkdir()
    path.write_text("data: {use: digits}\nstudent: {use: smallnet}\n")
    assert run(complexity, path, "data.batch_size=16", "--no-measure") == 0
    assert "x/digits, batches of 16 x 1 x 32 x 32" in capsys.readouterr().out


def test_it_fails_if_a_figure_is_not_the_papers(run, monkeypatch, tmp_path, capsys):
    wrong = replace(TABLE[0], parameters="0.08", expansions=())

    def one_row(console, **options):
        return rebuild(console, rows=[wrong], **options)

    monkeypatch.setattr("kdx_lab.complexity.paper.rebuild", one_row)
    with pytest.raises(SystemExit) as stopped:
        run(complexity, "--paper", "--json", tmp_path / "a.json")
    assert stopped.value.code == 1
    assert "parameters: the paper has 0.08M, we count 0.07M" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "a.json").read_text())["differences"]) == 2


@pytest.mark.parametrize("arguments", [(), ("a.yaml", "--paper")])
def test_it_needs_one_thing_to_count(run, capsys, arguments):
    assert run(complexity, *arguments) == 2
    assert capsys.readouterr().err == "error: give a recipe, or --network NAME, or only --paper\n"


def test_an_image_has_three_sides(run, capsys):
    with pytest.raises(SystemExit):
        run(complexity, "--network", "unet", "--image", "3x9")
    assert "argument --image: invalid CxHxW value: '3x9'" in capsys.readouterr().err
