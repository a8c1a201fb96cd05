import json

import pytest
import torch
from rich.console import Console

from benchmarks.output import selected, show, write
from kdx_lab.complexity.rounds import Quartiles


def test_rows_are_chosen_by_name():
    assert selected(["SmallNet-7 CL", "U-Net CL"], "smallnet*") == ["SmallNet-7 CL"]
    with pytest.raises(ValueError, match=r"--only x: no row matches\. Known: a, b"):
        selected(["a", "b"], "x")


def test_a_table_is_as_wide_as_it_needs_and_json_says_where_it_comes_from(tmp_path, capsys):
    rows = [{"network": "a" * 70, "ratio": Quartiles(0.5, 0.4, 0.6), "paper": None, "MB": 1.234}]
    show("title", rows, Console(width=40), note="median [quartiles]")
    out = capsys.readouterr().out
    assert f"{'a' * 70}   0.50 [0.40, 0.60]       -   1.23" in out
    assert "median [quartiles]" in out
    write(tmp_path / "new" / "a.json", rows, rounds=3)
    whole = json.loads((tmp_path / "new" / "a.json").read_text())
    assert whole["rows"][0]["ratio"] == {"median": 0.5, "low": 0.4, "high": 0.6}
    assert (whole["rounds"], whole["torch"]) == (3, torch.__version__)
    assert {"command", "date", "threads", "cpu", "cores"} < set(whole)
