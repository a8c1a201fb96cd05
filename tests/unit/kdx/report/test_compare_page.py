from kdx.report import write_report_page
from tests.unit.kdx.report.made import RECIPE, cells, figures, made, section


def test_runs_are_compared(tmp_path):
    other = RECIPE.replace("seed: 3", "seed: 4").replace("temperature: 4", "temperature: 8")
    runs = [made(tmp_path / "runs" / "a"), made(tmp_path / "runs" / "b", recipe=other, name="b")]
    path = write_report_page(runs)
    assert path == tmp_path / "runs" / "comparison.html"
    page = path.read_text()
    rows = {row[0]: row for row in cells(page, "Results")}
    assert rows["run"][2:6] == ["test top-1", "test top-5", "test images", "ECE"]
    assert rows["b"][2:6] == ["59.38% ± 2.59", "90.00% ± 1.58", "360", "6.25%"]
    assert cells(page, "What differs in the recipes")[1:] == [
        ["seed", "3", "4"],
        ["losses.1.temperature", "4", "8"],
    ]
    found = figures(section(page, "Curves"))
    assert list(found) == ["top-1 on validation", "Training loss", "Learning rate"]
    assert found["Training loss"].count("<path") == 2
    assert ">digits/kd</li>" in found["Training loss"]


def test_runs_of_one_name_are_called_by_their_directories(tmp_path):
    runs = [made(tmp_path / name) for name in ("a", "b")]
    page = write_report_page(runs, tmp_path / "both.html").read_text()
    assert [row[0] for row in cells(page, "Results")[1:]] == [str(run) for run in runs]
    assert "Nothing but their names." in page


def test_names_are_those_below_the_folder_of_all(tmp_path):
    names = ("study/x/seed_0", "study/y/seed_0")
    runs = [made(tmp_path / str(n), name=name) for n, name in enumerate(names)]
    page = write_report_page(runs).read_text()
    assert [row[0] for row in cells(page, "Results")[1:]] == ["x/seed_0", "y/seed_0"]
