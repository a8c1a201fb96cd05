"""Table 13: every printed figure, and what happens where one is not ours."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from kdx.models.students import TABLE as STUDENTS
from kdx_lab.complexity.paper import Printed, rebuild
from kdx_lab.complexity.table13 import NETWORKS, TABLE


@pytest.fixture
def console():
    return Console(file=io.StringIO(), width=60)


@pytest.fixture(scope="module")
def rebuilt():
    """Return the whole table as data and as it is printed."""
    console = Console(file=io.StringIO(), width=60)
    result = rebuild(console, rounds=1)
    return result, console.file.getvalue()


def test_every_figure_is_the_papers(rebuilt):
    result, text = rebuilt
    assert result["differences"] == []
    assert "60 of 60 figures equal the paper's" in text
    assert "82.97M = 82.97M   7.76M = 7.76M   2586.02G = 2586.02G   389.26G = 389.26G" in text
    assert "0.6G = 0.6G" in text


def test_the_documentation_shows_the_table(rebuilt):
    shown = (Path(__file__).parents[4] / "docs" / "complexity.md").read_text().splitlines()
    printed = [line.strip() for line in rebuilt[1].splitlines() if " = " in line]
    assert len(printed) == 1 + 15
    assert {line.strip() for line in shown} >= set(printed)


def test_more_digits_than_are_printed(rebuilt):
    """As they were found when the paper's networks were first built and counted."""
    flops = {
        (line["network"], line["expansion"]): line["networks"][
            "unfolded" if line["expansion"] else "compact"
        ]["counts"]["paper_flops"]
        for line in rebuilt[0]["lines"]
    }
    assert [round(count / 1e3) for count in list(flops.values())[:5]] == [
        *(4_492, 57_487, 59_044, 23_948, 25_504),
    ]
    assert [f"{count / 1e9:.4f}" for count in list(flops.values())[5:13]] == [
        *("0.5839", "1.7648", "0.3202", "1.3384", "0.0436", "0.6018", "1.8136", "28.5861"),
    ]
    assert flops["U-Net", None] == 389_264_965_632
    assert flops["U-Net", "ExpandNet-CL"] == 2_586_023_517_376


def test_folding_spares_training(rebuilt):
    for line in rebuilt[0]["lines"]:
        if line["expansion"]:
            steps = {name: cost["step"] for name, cost in line["networks"].items()}
            assert steps["unfolded"]["macs"] > 3 * steps["compact"]["macs"]
            assert steps["folded"]["macs"] < 1.3 * steps["compact"]["macs"]
            assert steps["unfolded"]["peak"] > 2 * steps["folded"]["peak"]


def test_a_figure_that_is_not_ours_is_named(console):
    row = replace(TABLE[0], flops="4.48M", expansions=TABLE[0].expansions[:1])
    result = rebuild(console, rows=[row], rounds=1)
    assert result["differences"] == [
        f"SmallNet (7x7){name}: {what}: the paper has 4.48M, we count 4.49M"
        for name, what in (
            ("", "FLOPs"),
            ("", "FLOPs at test"),
            (", ExpandNet-CL", "FLOPs at test"),
        )
    ]
    text = console.file.getvalue()
    assert "4.48M ≠ 4.49M" in text
    assert "5 of 8 figures equal the paper's" in text


def test_speeds_are_measured_when_asked_for(console):
    row = replace(TABLE[0], trial=(2, 32, 32), expansions=TABLE[0].expansions[:1])
    compact, expanded = rebuild(console, rows=[row], rounds=1, measure=True)["lines"]
    assert "measured" not in compact
    speeds = expanded["measured"]["training"]
    assert set(speeds) == {"unfolded", "folded", "compact"}
    assert min(speeds.values()) > 0
    assert "2 x 3 x 32 x 32" in console.file.getvalue()


def test_digits_are_compared_as_printed():
    assert Printed("", "25.5M", 25_504_448).agrees
    assert not Printed("", "25.50M", 25_494_000).agrees
    assert str(Printed("", "0.58G", 583_918_592)) == "0.58G = 0.58G"
    assert "1.41M ≠ 1.42M" in str(Printed("", "1.41M", 1_416_000))


def test_the_papers_networks_are_those_of_the_students():
    assert set(NETWORKS) < set(STUDENTS)
    assert {row.student["use"] for row in TABLE} < set(NETWORKS)
