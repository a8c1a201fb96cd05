import json
import shutil

import pytest

from kdx.report import write_page
from kdx.report.scales import scale_of
from kdx.report.svg import RIGHT, WIDTH
from kdx_lab.study.collecting import collect
from kdx_lab.study.page import study_page
from kdx_lab.study.results import write_results
from tests.unit.kdx.report.made import SCRIPT, cells, figures, section, texts
from tests.unit.kdx_lab.study.made import cell, finished


def study(tmp_path, *, setting="", errors=False, **more):
    """Write the results of two arms with three seeds, one of them unfinished."""
    root = tmp_path / "runs"
    done = [
        finished(tmp_path, arm, seed, score + seed / 100, setting=setting, curve=(0.25, score))
        for arm, score in (("compact", 0.5), (f"kd {SCRIPT}", 0.75))
        for seed in (0, 1)
    ]
    late = cell(tmp_path, arm="compact", seed=2, setting=setting)
    results = collect([*done, late], baseline="compact", errors=errors, failures={str(late): "no"})
    for each in done:  # the fixture's summaries have one name for all
        path = each.run_dir / "summary.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps(content | {"name": each.recipe.name}))
    results = collect([*done, late], baseline="compact", errors=errors, failures={str(late): "no"})
    write_results(root, results, title="A study", command="kdx study x.yaml", **more)
    return root


def written(root):
    """Return the HTML of a study's page."""
    page = (root / "report.html").read_text()
    assert page == write_page(study_page(root), root / "page.html").read_text()
    return page


def test_a_study_has_its_table_with_n_and_intervals(tmp_path):
    root = study(tmp_path, description="What it is.")
    page = written(root)
    assert "<script" not in page
    name = "kd &lt;script&gt;alert(1)&lt;/script&gt;"
    table = cells(page, "Results")
    assert table[0][:4] == ["arm", "n", "test top-1 (%)", "Δ to compact [95% CI]"]
    assert [row[:4] for row in table[1:]] == [
        ["compact", "2 of 3", "50.50 ± 0.71", ""],
        [name, "2", "75.50 ± 0.71", "+25.00 [+25.00, +25.00]"],
    ]
    assert "Study · 4 of 5 runs finished" in page
    assert cells(page, "Failures")[1:] == [["compact", "2", "no"]]
    assert "exported student (last epoch) on the 360 test images" in page
    assert "kdx study x.yaml" in section(page, "Command")
    assert f"{name} is best, 75.50, +25.00 [+25.00, +25.00]" in section(page, "What it says")
    assert "What it is." in page


def test_a_study_has_figures_in_the_colours_of_its_arms(tmp_path):
    page = written(study(tmp_path))
    found = figures(section(page, "Results"))
    assert list(found) == [
        "Difference to compact", "Test top-1", "top-1 on validation", "Training loss",
    ]  # fmt: skip
    differences = found["Difference to compact"]
    assert texts(differences, "xlabel") == ["difference of test top-1 (percentage points)"]
    assert 'class="c1"' in differences
    assert 'class="c0"' not in differences
    at = scale_of([0, 25]).onto(16, WIDTH - RIGHT - 6)
    assert f'<circle class="c1" cx="{at(25):.1f}"' in differences
    assert "compact, epoch 2: 50</title>" in found["top-1 on validation"]
    assert found["top-1 on validation"].count("<polygon") == 2


def test_runs_that_were_replaced_draw_no_curves(tmp_path):
    root = study(tmp_path)
    before = written(root)
    for summary in sorted(root.rglob("summary.json")):
        for aside in (summary.parent.with_name(f"{summary.parent.name}.replaced"),
                      root / "tune" / f"trial_{summary.parent.name}"):  # fmt: skip
            shutil.copytree(summary.parent, aside, dirs_exist_ok=True)
            (aside / "metrics.jsonl").write_text("damaged")
    assert written(root) == before


def test_a_study_of_errors_turns_its_curves(tmp_path):
    page = written(study(tmp_path, errors=True))
    assert cells(page, "Results")[1][2] == "49.50 ± 0.71"
    curve = figures(section(page, "Results"))["top-1 error on validation"]
    assert "compact, epoch 1: 75</title>" in curve
    assert "lower is better" in page


def test_a_study_without_finished_runs_says_so(tmp_path):
    results = collect([cell(tmp_path)], baseline="compact")
    write_results(tmp_path, results, title="Later")
    page = written(tmp_path)
    assert "No run is finished yet." in page
    assert cells(page, "Results")[1] == ["compact", "0 of 1"]
    assert not figures(page)


def test_a_damaged_run_of_a_study_is_refused(tmp_path):
    root = study(tmp_path)
    next(root.rglob("summary.json")).write_text("{")
    with pytest.raises(ValueError, match=r"summary.json: damaged: "):
        study_page(root)
