import json

import pytest
from PIL import Image

from kdx.report import write_report_page
from kdx.report.images import AS_PNG, embedded
from tests.unit.kdx.report.made import CLASSES, made

EPOCH = '{"epoch": 1}\n'
DAMAGED = {
    "summary.json": [
        ("{", r"summary.json: damaged: Expecting property name"),
        ("[]", r"summary.json: damaged: .*"),
        ('{"name": 1}', r"summary.json: damaged: name: 1 is not a string"),
    ],
    "certificate.json": [("{}", r"certificate.json: damaged: holds: is missing")],
    "metrics.jsonl": [
        (f"{EPOCH}{{", r"metrics.jsonl: damaged: Expecting"),
        (f"{EPOCH}[1]", r"metrics.jsonl:2: damaged: the line is not an epoch's metrics"),
        ('{"epoch": "a"}', r"metrics.jsonl:1: damaged: the line is not an epoch's metrics"),
    ],
    "classes.json": [
        (json.dumps(CLASSES | {"count": [1]}), "a list is not as long as the 3 names"),
        (json.dumps(CLASSES | {"confusion": [[1]] * 3}), "a list is not as long as the 3 names"),
        (json.dumps(CLASSES | {"worst": [CLASSES["worst"][0] | {"true": 3}]}),
         "`worst` has a class that is not one of the 3"),
    ],
    "recipe.yaml": [("name: [", r"recipe.yaml:1: .*"), ("7", "a recipe is a mapping")],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    return made(tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [(name, *each) for name, cases in DAMAGED.items() for each in cases],
)
def test_damaged_files_are_refused(run, name, content, message):
    (run / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report_page([run])
    assert not (run / "report.html").exists()


def test_a_summary_needs_a_metric_of_its_headings(run):
    content = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(content | {"headings": {"map": "mAP"}}))
    with pytest.raises(ValueError, match=r"`test` has none of the metrics of `headings`"):
        write_report_page([run])


def test_pictures_that_cannot_be_read_are_refused(run, tmp_path):
    (run / "pictures" / "000012.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ValueError, match=r"000012.png: not a picture that can be read"):
        write_report_page([run])
    Image.new("L", (4, 4)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other.png: not below the run directory"):
        embedded(run, "../other.png", "")


def test_large_pictures_are_made_smaller(run):
    Image.effect_noise((1200, 800), 90).save(run / "pictures" / "large.png")
    assert (run / "pictures" / "large.png").stat().st_size > 10 * AS_PNG
    picture = embedded(run, "pictures/large.png", "")
    assert picture.url.startswith("data:image/jpeg;base64,")
    assert len(picture.url) < 400_000
    assert not picture.tiny
    assert embedded(run, "pictures/000004.png", "").tiny


def test_other_directories_and_outputs_are_refused(run, tmp_path):
    with pytest.raises(ValueError, match=r"no_run: no such directory"):
        write_report_page([tmp_path / "no_run"])
    with pytest.raises(ValueError, match=r"not a run: it has no recipe.yaml, and no results.json"):
        write_report_page([tmp_path])
    with pytest.raises(ValueError, match=r"recipe.yaml: the page is an HTML file"):
        write_report_page([run], run / "recipe.yaml")
