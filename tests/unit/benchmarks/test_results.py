"""The page's tables from kept results, and what of a study is kept."""

import json
import shutil

import pytest

from benchmarks import results

COMMITTED = results.PAGE.with_suffix("")
STUDY = "fashion_mnist_tuned"  # 3x3: of six arms do-conv and compact+kd have intervals above 0


@pytest.fixture(autouse=True)
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "PAGE", tmp_path / "docs" / "results.md")
    (tmp_path / "docs" / "results").mkdir(parents=True)
    (tmp_path / "docs" / "figures").mkdir()
    return tmp_path / "docs"


def curves(*epochs: int) -> dict:
    band = {"x": list(epochs), "mean": [0.5] * len(epochs), "std": [0.25] * len(epochs)}
    return {"loss/total": band, "validation/top1": band}


def table(page, **numbers) -> list[str]:
    (page / "results" / "toy.json").write_text(json.dumps(numbers))
    _, *rows = results.rewritten("<!-- analysis toy.json -->\n").splitlines()
    return rows


def test_widths_of_runs_that_do_not_rise_are_no_numbers(page):
    compact = {"label": "compact", "compact": {"half-widths": [0.5, 0.7, None]}}
    flat = {"label": "flat", "compact": {"half-widths": [None]}}
    *_, first, second = table(page, rise=1.0, grid={"span": 1.0}, groups=[compact, flat])
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in (first, second)]
    assert cells == [["compact", "0.50, 0.70, a side > 1"], ["flat", "a side > 1"]]


def test_metrics_of_evaluated_epochs(page):
    groups = [
        {"label": "compact", "runs": ["a", "b"], "curves": curves(2, 4)},
        {"label": "ck", "runs": ["c"], "curves": curves(2, 4)},
    ]
    headings, _, *rows = table(page, metric="top1", groups=groups)
    assert headings.split("|")[3:5] == ["     epoch 2 ", "     epoch 4 "]
    assert [row.count("50.0 ± 25.0") for row in rows] == [2, 0]
    groups[1]["curves"] = curves(3)
    with pytest.raises(ValueError, match=r"toy\.json: arms were evaluated after different epochs"):
        table(page, metric="top1", groups=groups)


def test_students_in_int8(page):
    ck = {"label": "ck", "setting": "7x7", "changed": [30, 40]}
    ck |= {"float": [0.85, 0.87], "int8": [0.85, 0.865]}
    one = {"label": "cl", "setting": "", "changed": [7], "float": [0.5], "int8": [0.501]}
    *_, first, second = table(page, rounded="a.onnx", groups=[ck, one])
    assert [cell.strip() for cell in first.split("|")[1:-1]] == [
        "7x7, ck", "2", "35", "-0.25 [-3.43, +2.93]", "-0.50",
    ]  # fmt: skip
    assert [cell.strip() for cell in second.split("|")[1:-1]] == ["cl", "1", "7", "+0.10", "+0.10"]


def test_figures_are_kept_with_the_names_of_the_arms(page, tmp_path):
    study = tmp_path / "runs" / "studies" / "toys" / "toy"
    (study / "analysis").mkdir(parents=True)
    group = {"label": "ck-fc", "runs": [str(study / "ck-fc" / "seed_0")]}
    (study / "analysis" / "curves.json").write_text(json.dumps({"groups": [group]}))
    (study / "analysis" / "curves.png").write_bytes(b"png")
    (study / "analysis" / "int8.json").write_text(json.dumps({"rounded": "a", "groups": [group]}))
    rows = [{"arm": "ck+fc", "runs": {}}]
    content = {"command": "kdx study toy.yaml --output-root=/tmp/here", "rows": rows}
    (study / "results.json").write_text(json.dumps(content))
    (page / "results.md").write_text("")
    results.main([str(study)])
    for name in ("curves", "int8"):
        (kept,) = json.loads((page / "results" / f"toys_toy_{name}.json").read_text())["groups"]
        assert kept == {"label": "ck+fc", "runs": ["ck-fc/seed_0"]}
    assert (page / "figures" / "toys_toy_curves.png").read_bytes() == b"png"
    assert json.loads((page / "results" / "toys_toy.json").read_text())["command"] == (
        "kdx study toy.yaml"
    )


def test_bold_is_what_the_correction_leaves(page, monkeypatch):
    shutil.copy(COMMITTED / f"{STUDY}.json", page / "results")
    chosen = page / "results" / "situations.yaml"
    monkeypatch.setattr(results, "SITUATIONS", chosen)

    def bold(*rows: tuple[str, str | None]) -> list[bool]:
        about = [
            {
                "tried": arm,
                "arm": [STUDY, "3x3", arm],
                "over": over and [STUDY, "3x3", over],
                "see": "",
            }
            for arm, over in rows
        ]
        chosen.write_text(json.dumps(about))
        lines = results.rewritten("<!-- situations -->\n").splitlines()[3:]
        return ["**" in line for line in lines]

    assert bold(("do-conv", None), ("compact+kd", None), ("cl", None)) == [True, False, False]
    with_kd = ("compact+kd", "compact")
    assert bold(with_kd) == [True]  # alone, with nothing to correct for
    assert bold(with_kd, *[("cl", "compact")] * 5) == [False] * 6
