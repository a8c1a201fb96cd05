"""What `kdx analyze` passes on."""

from pathlib import Path

import pytest

from kdx_lab.commands import analyze


def test_each_analysis_has_its_own_options(run, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("kdx_lab.analysis.analyze", lambda console, **given: calls.append(given))
    common = {"output": None, "plugins": [], "output_root": "runs"}
    assert run(analyze, "curves", "a", "b", "-o", "out") == 0
    assert run(analyze, "confusion", "a", "--pairs", "3", "--of", "folded") == 0
    assert run(analyze, "landscape", "a", "--dims", "2", "--batchnorm", "refit") == 0
    curves, confusion, landscape = calls
    places = [Path("a"), Path("b")]
    assert curves == common | {"what": "curves", "places": places, "output": Path("out")}
    assert confusion == common | {
        "what": "confusion", "places": [Path("a")], "pairs": 3, "every": 1, "of": "folded",
    }  # fmt: skip
    assert landscape == common | {
        "what": "landscape", "places": [Path("a")], "dims": 2, "points": 25, "span": 1.0,
        "images": 1000, "batchnorm": "refit", "seed": 0,
    }  # fmt: skip
    with pytest.raises(SystemExit):
        run(analyze, "curves", "a", "--pairs", "3")
    assert "unrecognized arguments: --pairs 3" in capsys.readouterr().err
