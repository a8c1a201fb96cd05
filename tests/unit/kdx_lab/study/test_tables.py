import io

import pytest
from rich.console import Console

from kdx_lab.study.collecting import collect
from kdx_lab.study.document import document
from kdx_lab.study.tables import live_table, overview, setting_table
from tests.unit.kdx_lab.study.made import cell, finished

COSTS = {"seconds": 120.0, "images_per_second": 1500.0}


def parsed(text):
    """Return the lines of a Markdown table as lists of cells, without the rule."""
    lines = [[each.strip() for each in line.split("|")[1:-1]] for line in text.splitlines()]
    assert set("".join(lines.pop(1))) <= {"-", ":"}
    return lines


def columns(text):
    heading, *rows = parsed(text)
    return {name: [row[i] for row in rows] for i, name in enumerate(heading)}


@pytest.fixture
def two_arms(tmp_path):
    cells = [
        finished(tmp_path, "compact", n, score, **COSTS) for n, score in enumerate((0.5, 0.52))
    ]
    cells += [finished(tmp_path, "cl", n, score, **COSTS) for n, score in enumerate((0.51, 0.54))]
    return [*cells, cell(tmp_path, arm="cl", seed=2)]


def test_a_table_in_percent_and_percentage_points(two_arms):
    found = columns(setting_table(collect(two_arms, baseline="compact"), ""))
    assert found["arm"] == ["compact", "cl"]
    assert found["n"] == ["2", "2 of 3"]
    assert found["test top-1 (%)"] == ["51.00 ± 1.41", "52.50 ± 2.12"]  # 2 and 3 over sqrt(2)
    # differences 1 and 2: s = 1 / sqrt(2), t(0.975; 1) = 12.7062
    assert found["Δ to compact [95% CI]"] == ["", "+1.50 [-4.85, +7.85]"]
    assert found["best validation"] == ["62.50 ± 0.00"] * 2
    assert found["at epoch"] == ["2.0"] * 2
    assert found["last validation"] == ["50.00 ± 0.00"] * 2
    assert (found["seconds"], found["x compact"]) == (["120"] * 2, ["", "1.00"])
    assert found["images/s"] == ["1,500"] * 2
    assert (found["parameters"], found["in training"]) == (["15,050"] * 2, ["314,654"] * 2)
    assert "train" not in found


def test_a_column_is_there_where_one_row_has_it(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5), cell(tmp_path, arm="cl")]
    cells += [finished(tmp_path, "ck", 0, 0.5, train={"top1": 0.75})]
    found = columns(setting_table(collect(cells, baseline="compact"), ""))
    assert found["train"] == ["", "", "75.00"]
    assert found["n"] == ["1", "0 of 1", "1"]


def test_a_choice_on_the_test_images_is_said(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5, evaluated_on="test")]
    found = columns(setting_table(collect(cells, baseline="compact", errors=True), ""))
    assert found["test top-1 error (%)"] == ["50.00"]
    assert found["best test (chosen on test)"] == ["37.50"]
    assert "last test" not in found  # it is test's own


def test_a_difference_of_fewer_seeds_says_so_and_zero_has_no_minus(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5), cell(tmp_path, seed=1)]
    cells += [finished(tmp_path, "cl", 0, 0.49999), finished(tmp_path, "cl", 1, 0.75)]
    found = columns(setting_table(collect(cells, baseline="compact"), ""))
    assert found["Δ to compact [95% CI]"] == ["", "+0.00 (n = 1)"]


def test_the_source_of_a_table_is_aligned_whatever_arms_are_called(tmp_path):
    cells = [cell(tmp_path), cell(tmp_path, arm="cl | rate 4")]
    text = setting_table(collect(cells, baseline="compact"), "")
    assert text == (
        "| arm          |      n |\n"
        "| ------------ | -----: |\n"
        "| compact      | 0 of 1 |\n"
        "| cl \\| rate 4 | 0 of 1 |"
    )


def test_all_settings_at_a_glance(tmp_path):
    cells = [
        finished(tmp_path, "compact", n, 0.5, setting=s) for s in ("k 3", "k 5") for n in (0, 1)
    ]
    cells.append(finished(tmp_path, "cl", 0, 0.75, setting="k 3"))
    cells.append(cell(tmp_path, setting="k 5", arm="cl"))
    cells.append(finished(tmp_path, "ck", 0, 1.0, setting="k 5"))
    assert parsed(overview(collect(cells, baseline="compact"))) == [
        ["arm", "k 3", "k 5"],
        ["compact", "50.00 ± 0.00", "50.00 ± 0.00"],
        ["cl", "75.00", "..."],
        ["ck", "N/A", "100.00"],
    ]


def printed(table):
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_the_table_while_it_runs(two_arms, tmp_path):
    cells = [*two_arms, *(cell(tmp_path, arm=arm) for arm in ("[b]ck", "fc", "cl+fc"))]
    failures = {str(cells[-1]): "TrainingError: nan"}
    results = collect(cells, baseline="compact", failures=failures)
    lines = printed(live_table(results, running=[str(cells[4]), str(cells[5])], title="Digits"))
    assert lines[0] == "Digits"
    assert lines[2:4] == ["test top-1 Δ to compact [95%", "arm n (%) CI] seconds state"]
    assert "compact 2 51.00 ± 1.41 120 done" in lines
    assert "cl 2 of 3 52.50 ± 2.12 +1.50 [-4.85, +7.85] 120 running" in lines
    assert "[b]ck 0 of 1 running" in lines
    assert "fc 0 of 1 waiting" in lines
    assert "cl+fc 0 of 1 1 failed" in lines


@pytest.mark.parametrize("text", ["[/v2]", "[v2] x", ":smile:"])
def test_titles_and_arms_are_no_markup(tmp_path, text):
    cells = [finished(tmp_path, text, 0, 0.5), finished(tmp_path, "cl", 0, 0.6)]
    lines = printed(live_table(collect(cells, baseline=text), title=text))
    assert lines[0] == text
    assert lines[-3].startswith(f"{text} 1 50.00")
    assert any(f"Δ to {text}" in line for line in lines)


def test_settings_are_sections_of_it(tmp_path):
    cells = [finished(tmp_path, "compact", 0, 0.5, setting=s, seconds=2.5) for s in ("k 3", "k 5")]
    lines = printed(live_table(collect(cells, baseline="compact")))
    row = "compact 1 50.00 2.5 done"
    assert [line for line in lines if line in ("k 3", "k 5", row)] == ["k 3", row, "k 5", row]


def test_numbers_are_shown_as_they_are(tmp_path):
    about = {"headings": {"r2": "R2"}, "numbers": ["r2"], "best": {"r2": 0.5}, "last": {"r2": 0.5}}
    cells = [
        finished(tmp_path, arm, n, 0, test={"r2": value}, **COSTS, **about)
        for arm, values in (("compact", (-0.5, -0.52)), ("cl", (-0.51, 0.04)))
        for n, value in enumerate(values)
    ]
    results = collect(cells, baseline="compact")
    found = columns(setting_table(results, ""))
    assert found["test R2"] == ["-0.5100 ± 0.0141", "-0.2350 ± 0.3889"]
    # 0.01 and -0.56 apart: s = 0.57 / sqrt(2), t(0.975; 1) = 12.7062
    assert found["Δ to compact [95% CI]"][1] == "+0.2750 [-3.3463, +3.8963]"
    assert "percent" not in document(results, title="", description="", command="")
