import json
from math import sqrt

import pytest

from kdx.report import write_report_page
from kdx.util.files import write_whole
from tests.unit.kdx.report.made import (
    CLASSES,
    RECIPE,
    SCRIPT,
    cells,
    figures,
    made,
    section,
    texts,
)


@pytest.fixture
def page(tmp_path):
    """Return the page of a finished run with everything."""
    path = write_report_page([made(tmp_path / "run")])
    assert path == tmp_path / "run" / "report.html"
    return path.read_text()


def test_the_result_has_n_and_its_error(page):
    assert cells(page, "Result")[:3] == [
        ["network", "on", "top-1", "top-5"],
        ["student (exported)", "test, n = 360", "59.38%", "90.00%"],
        ["student, last epoch (3)", "validation", "50.00%", "90.00%"],
    ]
    assert cells(page, "Result")[-1] == ["teacher", "validation", "75.00%", "100.00%"]
    error = 100 * sqrt(0.59375 * (1 - 0.59375) / 360)
    assert (
        f"± {error:.2f} points; 95% interval 54.23 to 64.32; n = 360 test images, one run, " in page
    )
    assert "<strong>59.38%</strong>" in page


def test_what_was_trained(page):
    text = section(page, "What was trained")
    for name, what in (
        ("student", "smallnet (kernel_size: 3)"),
        ("trained as", "expand.ExpandNet (conv: cl)"),
        ("teacher", "teachers.resnet18 (weights: runs/digits/resnet18)"),
        ("augmentation", "crop 2"),
        ("seed", "3"),
    ):
        assert f"<dt>{name}</dt><dd>{what}</dd>" in text
    assert cells(page, "What was trained")[1] == [
        "train", "0.5 cross_entropy + (0 to 1 over 5 epochs) kd (temperature: 4)",
        "SGD (lr: 0.01)", "cosine (warmup: 3)", "3",
    ]  # fmt: skip
    assert (
        "smallnet on digits, trained as expand.ExpandNet, distilled from teachers.resnet18" in page
    )
    assert "use: cross_entropy, weight: 0.5" in section(page, "Recipe")


def test_stages_have_rows_of_their_own(tmp_path):
    stages = "stages: [{name: first, epochs: 2}, {name: last, losses: [{use: kd}], epochs: 1}]"
    run = made(tmp_path / "run", recipe=RECIPE.replace("stages: []", stages))
    rows = cells(write_report_page([run]).read_text(), "What was trained")[1:]
    assert [(row[0], row[1], row[4]) for row in rows] == [
        ("first", "0.5 cross_entropy + (0 to 1 over 5 epochs) kd (temperature: 4)", "2"),
        ("last", "1 kd", "1"),
    ]


def test_the_certificate_and_the_exports(page):
    assert cells(page, "Certificate")[1] == ["float32", "0.00123", "4.56e-07", "0.0001", "1,024"]
    assert "<strong>3 of 1,024</strong>" in page
    assert cells(page, "Exports") == [
        ["file", "format", "runtime", "size", "largest error", "predictions changed", "n",
         "top-1, student", "export"],
        ["exports/student.onnx", "onnx", "onnxruntime 1.32.0", "64 kB", "0.25", "7", "360",
         "50.00%", "25.00%"],
        ["file", "batch", "threads", "median (ms)", "95th percentile (ms)", "torch, median",
         "torch, 95th percentile", "times as fast"],
        ["exports/student.onnx", "32", "1", "2", "2.5", "3", "3.5", "1.50"],
    ]  # fmt: skip


def test_a_certificate_that_fails_says_so(tmp_path):
    run = made(tmp_path / "run")
    content = json.loads((run / "certificate.json").read_text())
    (run / "certificate.json").write_text(json.dumps(content | {"holds": False}))
    text = section(write_report_page([run]).read_text(), "Certificate")
    assert "<strong>does not hold</strong><small>nothing exported" in text


def test_curves_are_drawn_of_what_there_is(page):
    found = figures(section(page, "Curves"))
    assert list(found) == ["top-1", "top-5", "Training loss", "Terms of the loss", "Learning rate"]
    for title, svg in found.items():
        assert texts(svg, "xlabel") == ["epoch"], title
        assert len(texts(svg, "ylabel")) == 1, title
        assert svg.count('class="mark"') == 1, title  # the second stage
    assert texts(found["top-1"], "ylabel") == ["top-1 (%)"]
    assert "validation, average, epoch 3: 60</title>" in found["top-1"]
    assert ">weighted/kd" not in found["Training loss"]
    assert "kd, epoch 2: 1.5</title>" in found["Training loss"]
    assert "kd, epoch 2: 2</title>" in found["Terms of the loss"]
    assert "total" not in found["Terms of the loss"]  # it is weighted


def test_classes_confusions_mistakes_and_calibration(page):
    name = "&lt;script&gt;alert(1)&lt;/script&gt;"
    assert cells(page, "Classes") == [
        ["class", "n", "recall"], [name, "3", "33.33%"], ["cat", "5", "80.00%"], ["dog", "2", "-"],
    ]  # fmt: skip
    assert cells(page, "Confusions")[1:] == [
        [name, "cat", "2", "66.7%"],
        ["cat", name, "1", "20.0%"],
    ]
    mistakes = section(page, "Most confident mistakes")
    assert f"cat, predicted {name} (97.5%) · a/4.png" in mistakes
    assert mistakes.count("data:image/png;base64,") == 1
    assert section(page, "Pictures").count("data:image/png;base64,") == 1  # the other one
    (title,) = figures(section(page, "Calibration"))
    assert title == "Reliability diagram: expected calibration error (ECE) 6.25%"


def test_what_users_write_is_escaped(tmp_path):
    recipe = RECIPE.replace("use: smallnet", f'use: "{SCRIPT}"')
    named = {"name": SCRIPT, "environment": {"device": SCRIPT}, "headings": {"top1": SCRIPT}}
    run = made(tmp_path / "run", recipe=recipe, **named)
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 4, f"loss/{SCRIPT}": 1.0, f"weight/{SCRIPT}": 2.0}) + "\n")
    page = write_report_page([run]).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;alert(1)") > 10


def test_characters_that_html_cannot_hold_are_escaped(tmp_path):
    classes = CLASSES | {"names": ["a\x00", "b\ud800", "c\x1b[0m"]}
    page = write_report_page([made(tmp_path / "run", classes=classes)]).read_text()
    assert [row[0] for row in cells(page, "Classes")[1:]] == ["b\\ud800", "a\\x00", "c\\x1b[0m"]
    assert "\x00" not in page


def test_a_thousand_classes_are_the_twenty_worst_without_a_matrix(tmp_path):
    values = [n / 1000 for n in range(1000)]
    classes = CLASSES | {
        "names": [f"n{n}" for n in range(1000)], "count": [1] * 1000, "confusion": None,
        "metrics": {"recall": {"heading": "recall", "values": values}},
    }  # fmt: skip
    page = write_report_page([made(tmp_path / "run", classes=classes)]).read_text()
    assert [row[0] for row in cells(page, "Classes")[1:]] == [f"n{n}" for n in range(20)]
    assert not section(page, "Confusions")
    assert len(page) < 100_000


def test_what_is_missing_is_left_out(tmp_path):
    run = made(tmp_path / "run", classes=None)
    (run / "certificate.json").unlink()
    (run / "metrics.jsonl").unlink()
    page = write_report_page([run]).read_text()
    for heading in ("Certificate", "Exports", "Curves", "Classes", "Confusions", "Calibration"):
        assert not section(page, heading)
    assert cells(page, "Result")


def test_an_unfinished_run_shows_its_curves(tmp_path):
    run = made(tmp_path / "run", classes=None)
    for name in ("summary.json", "certificate.json"):
        (run / name).unlink()
    page = write_report_page([run]).read_text()
    assert "This run is not finished: 3 epochs are done." in page
    assert "top1" in figures(section(page, "Curves"))


def test_metrics_that_are_numbers_are_not_in_percent(tmp_path):
    scores = {"mae": 1.25, "r2": 0.5}
    parts = dict.fromkeys(("test", "last", "best"), scores)
    headings = {"mae": "MAE", "r2": "R2"}
    run = made(tmp_path / "run", headings=headings, numbers=["mae", "r2"], teacher=None, **parts)
    (run / "metrics.jsonl").write_text('{"epoch": 1, "validation/mae": 2.5, "validation/r2": 0.1}')
    page = write_report_page([run]).read_text()
    assert cells(page, "Result")[1] == ["student (exported)", "test, n = 360", "1.25", "0.5"]
    found = figures(section(page, "Curves"))
    assert list(found) == ["MAE on validation", "R2 on validation"]
    assert texts(found["MAE on validation"], "ylabel") == ["MAE"]
    assert "standard error" not in page


def test_outputs_of_a_regression_are_not_in_percent(tmp_path):
    classes = {
        "split": "test", "images": 10, "names": ["width", "height"], "count": [10, 10],
        "metrics": {"mae": {"heading": "MAE", "values": [12.5, 0.25]},
                    "r2": {"heading": "R2", "values": [-0.5, None]}},
        "numbers": ["mae", "r2"],
    }  # fmt: skip
    page = write_report_page([made(tmp_path / "run", classes=classes)]).read_text()
    assert cells(page, "Outputs")[1:] == [["height", "10", "0.25", "-"],
                                          ["width", "10", "12.5", "-0.5"]]  # fmt: skip
    assert "--share" not in section(page, "Classes")


def test_the_page_of_a_real_run(distilled):
    recipe, run_dir, _ = distilled
    page = (run_dir / "report.html").read_text()
    report = (run_dir / "report.md").read_text()
    assert f"<h1>{recipe.name}</h1>" in page
    markdown = [
        [cell.strip() for cell in line.strip("| ").split(" | ")]
        for line in report.splitlines()
        if line.startswith("| student")
    ]
    shown = {row[0]: [cell for cell in row if cell] for row in cells(page, "Result")}
    for row in markdown:
        assert shown[row[0]] == [cell for cell in row if cell]
    code = section(page, "Load it").partition("<pre")[2].partition(">")[2].partition("</pre>")[0]
    assert f"kdx.load_student(&#34;{run_dir}&#34;)" in code
    assert write_report_page([run_dir]).read_text() == page


def test_a_run_that_fails_to_write_keeps_the_earlier_page(tmp_path, monkeypatch):
    run = made(tmp_path / "run")
    path = write_report_page([run])
    before = path.read_bytes()
    monkeypatch.setattr(
        "kdx.report.page.write_whole", lambda path, text: write_whole(path / "x", text)
    )
    with pytest.raises(OSError, match=r"report.html/x: cannot be written"):
        write_report_page([run])
    assert path.read_bytes() == before
