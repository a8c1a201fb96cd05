import json
from dataclasses import replace

import pytest
import torch
from PIL import Image

from kdx.data import MemoryImages, Views
from kdx.protocols import ClassReport, InputSpec
from kdx.run.class_tables import in_brief, section, to_log
from kdx.run.classes import Classes, ClassObserver, write_classes
from kdx.run.pictures import with_pictures
from kdx.tasks import Classification

CPU = torch.device("cpu")
METRICS = {
    "recall": {"heading": "recall", "values": [0.5, None, 0.75]},
    "f1": {"heading": "F1", "values": [0.6, 0.0, 1.0]},
}
CALIBRATION = {"ece": 0.0625, "bins": [{}] * 15}
MATRIX = [[2, 1, 1], [0, 0, 0], [1200, 0, 3600]]
NAMES = ["ant|bee", "é?", "cat"]
FOUND = Classes("test", 4804, NAMES, [4, 0, 4800], METRICS, MATRIX, CALIBRATION, [])


def source(labels, channels=1):
    pixels = torch.arange(len(labels) * 16 * channels).remainder(251).byte()
    return MemoryImages(pixels.view(len(labels), channels, 4, 4), labels, "toy")


def many(n):
    """n classes of the recalls 0, 1 / n, ...: class k is taken for the next one k times of n."""
    matrix = torch.diag(torch.arange(n)) + torch.diag(torch.arange(n - 1) + 1, 1)
    values = {"recall": {"heading": "recall", "values": [k / n for k in range(n)]}}
    names = [f"c{k}" for k in range(n)]
    return Classes("test", 9, names, [n] * n, values, matrix.tolist(), None, [])


def judged(logits, labels, indices):
    observer = ClassObserver(Classification(num_classes=3), "abc", CPU)
    (observe,) = observer.observers
    for part in indices.split(20):
        observe(logits[part], labels[part], part)
    return observer


def test_the_worst_mistakes_are_the_most_confident_whichever_process_sees_them():
    logits = torch.randn(90, 3, generator=torch.Generator().manual_seed(0)) * 4
    logits[60:] = logits[:30]  # as confident: the earlier is first
    labels, images = torch.arange(90) % 3, torch.arange(90)
    report = judged(logits, labels, images).report("test", source(labels))
    confidence, said = logits.softmax(1).max(1)
    wrong = [i for i in range(90) if said[i] != labels[i]]
    expected = sorted(wrong, key=lambda i: (-float(confidence[i]), i))[:24]
    assert [each["index"] for each in report.worst] == expected
    assert len(wrong) > 24
    first, index = report.worst[0], expected[0]
    assert first == {
        "index": index, "name": f"toy[{index}]", "true": int(labels[index]),
        "predicted": int(said[index]), "picture": None,
        "confidence": pytest.approx(float(confidence[index])),
    }  # fmt: skip
    parts = [judged(logits, labels, part) for part in images.split(50)]
    worst = torch.cat([each.worst for each in parts])
    together = parts[0].report("test", source(labels), gather=lambda rows: worst)
    assert together.worst == report.worst


def test_without_mistakes_or_classes_there_are_none():
    labels = torch.tensor([0, 1, 2])
    assert judged(torch.eye(3), labels, labels).report("test", source(labels)).worst == []
    observer = ClassObserver(type("Plain", (), {})(), "abc", CPU)
    assert observer.observers == []
    assert observer.report("test", source(labels)) is None


def test_mistakes_have_small_pictures_of_their_pixels(tmp_path):
    labels = torch.tensor([0, 1])
    views = Views(source(labels), InputSpec(1, 4, (0.3,), (0.2,)), seed=0)
    (shown,) = with_pictures(tmp_path, [{"index": 1}], views)
    assert shown == {"index": 1, "picture": "pictures/000001.png"}
    picture = Image.open(tmp_path / "pictures" / "000001.png").convert("L")
    assert list(picture.tobytes()) == list(range(16, 32))
    five = Views(source(labels, 5), InputSpec(5, 4, (0.3,) * 5, (0.2,) * 5), seed=0)
    assert with_pictures(tmp_path, [{"index": 1}], five) == [{"index": 1}]


def test_classes_are_json(tmp_path):
    write_classes(tmp_path, FOUND)
    found = json.loads((tmp_path / "classes.json").read_text())
    assert list(found) == [
        "split", "images", "names", "count", "metrics", "confusion", "calibration", "worst",
        "numbers",
    ]  # fmt: skip
    assert found["metrics"]["recall"] == {"heading": "recall", "values": [0.5, None, 0.75]}


def test_few_classes_are_a_table_and_a_matrix():
    assert section(FOUND).splitlines() == [
        "On 4,804 test images. Expected calibration error: 6.25% (15 bins of equal width).",
        "",
        "| class    | count | recall |      F1 |",
        "| -------- | ----: | -----: | ------: |",
        r"| ant\|bee |     4 | 50.00% |  60.00% |",
        "| é?       |     0 |        |   0.00% |",
        "| cat      | 4,800 | 75.00% | 100.00% |",
        "",
        "Confusion, truth by row, prediction by column:",
        "",
        r"|          | ant\|bee |  é? |   cat |",
        "| -------- | -------: | --: | ----: |",
        r"| ant\|bee |        2 |   1 |     1 |",
        "| é?       |        0 |   0 |     0 |",
        "| cat      |    1,200 |   0 | 3,600 |",
    ]
    assert "Confusion" not in section(replace(FOUND, confusion=None))


def test_of_many_classes_the_lowest_are_shown_and_the_most_frequent_confusions():
    lines = section(many(51)).splitlines()
    assert lines[2] == "The 20 of 51 classes with the lowest recall:"
    assert [line.split()[1] for line in lines[6:26]] == [f"c{k}" for k in range(20)]
    assert lines[27] == "The most frequent confusions:"
    assert len(lines) == 51
    assert lines[31].split("|")[1:5] == [" c49   ", "       c50 ", "    50 ", "       98.04% "]
    assert "The most frequent" in section(many(21))
    assert "lowest" not in section(many(50))


def test_the_terminal_has_two_lines():
    assert in_brief(FOUND) == [
        "classes  lowest recall: ant|bee (50.00%), cat (75.00%)",
        "         confused: cat as ant|bee (1,200), ant|bee as é? (1), ant|bee as cat (1)",
    ]
    assert len(in_brief(replace(FOUND, confusion=None))) == 1


def test_those_of_a_regression_are_outputs():
    found = replace(FOUND, confusion=None, calibration=None, numbers=["loss", FOUND.main])
    assert in_brief(found)[0].startswith("outputs  lowest ")
    assert "\n| output " in section(found)


def test_the_log_has_a_value_for_each_of_few_classes():
    assert to_log(FOUND) == {
        "exported/recall/ant|bee": 0.5, "exported/recall/cat": 0.75, "exported/ece": 0.0625,
    }  # fmt: skip
    assert to_log(many(51)) == {}


class Other:
    """A plug-in's task whose meter reports what it is given."""

    def __init__(self, report):
        self.report = report

    def class_meter(self, device):
        return self

    def update(self, answer, target): ...

    def compute(self):
        return self.report


@pytest.mark.parametrize(
    ("report", "message"),
    [
        (ClassReport({"iou": ("IoU", [0.5, 0.5])}, [1, 2]), r"count has 2, metrics\['iou'\] has 2"),
        (ClassReport({"a": ("A", [1.0] * 3)}, [1] * 3, [[1] * 3] * 2), "confusion has 2"),
        (ClassReport({"a": ("A", [1.0] * 3)}, [1] * 3, [[1] * 4] * 3), r"confusion\[0\] has 4, "),
        (ClassReport({}, [1] * 3), "no metrics: a ClassReport needs one or more"),
    ],
)
def test_a_report_of_other_classes_than_the_datas(report, message):
    observer = ClassObserver(Other(report), "abc", CPU)
    with pytest.raises(ValueError, match=f"^class_meter of Other: .*{message}"):
        observer.report("test", source(torch.zeros(1, dtype=torch.int64)))
