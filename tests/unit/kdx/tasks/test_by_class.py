import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, jaccard_score, precision_recall_fscore_support
from torchmetrics.classification import MulticlassCalibrationError

from kdx.protocols import ByClass
from kdx.tasks import Classification
from tests.unit.kdx.tasks import measuring
from tests.unit.kdx.tasks.measuring_boxes import TASK as BOXES
from tests.unit.kdx.tasks.measuring_boxes import scenes

CPU = torch.device("cpu")
KINDS = 6  # of which 4 never occurs, and 5 neither occurs nor is predicted


def outputs():
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(4, (300,), generator=generator)
    logits = torch.randn(300, KINDS, generator=generator) * 3
    logits[torch.arange(300), targets] += 2
    logits[:, 5] = -50
    return logits, targets


def reported():
    meter = Classification(num_classes=KINDS).class_meter(CPU)
    logits, targets = outputs()
    for part, truth in zip(logits.split(70), targets.split(70), strict=True):
        meter.update(part, truth)
    return meter.compute()


def test_classification_is_scored_as_by_scikit_learn():
    logits, targets = outputs()
    predicted, report = logits.argmax(1), reported()
    kinds = list(range(KINDS))
    assert report.confusion == confusion_matrix(targets, predicted, labels=kinds).tolist()
    precision, recall, f1, count = precision_recall_fscore_support(
        targets, predicted, labels=kinds, zero_division=np.nan
    )
    found = {name: values for name, (_, values) in report.metrics.items()}
    assert list(found) == ["recall", "precision", "f1"]
    assert report.count == count.tolist()
    wanted = [None if np.isnan(each) else pytest.approx(each) for each in recall]
    assert found["recall"] == wanted
    assert wanted[4:] == [None, None]
    assert found["precision"] == [*map(pytest.approx, precision[:5]), None]
    assert found["f1"][:5] == pytest.approx(f1[:5])
    assert found["f1"][4:] == [0.0, None]


def test_calibration_is_that_of_torchmetrics_and_its_bins_add_up():
    logits, targets = outputs()
    calibration = reported().calibration
    reference = MulticlassCalibrationError(KINDS, n_bins=15, norm="l1")(logits, targets)
    assert calibration["ece"] == pytest.approx(float(reference), abs=1e-6) != 0
    bins = calibration["bins"]
    assert len(bins) == 15
    assert sum(each["count"] for each in bins) == 300
    assert bins[0] == {"low": 0.0, "high": 1 / 15, "count": 0, "confidence": None, "accuracy": None}
    sure = logits.softmax(1).max(1).values
    last = sure > 14 / 15
    assert (bins[-1]["count"], bins[-1]["high"]) == (int(last.sum()), 1.0)
    assert bins[-1]["confidence"] == pytest.approx(float(sure[last].mean()))
    right = (logits.argmax(1) == targets)[last]
    assert bins[-1]["accuracy"] == pytest.approx(float(right.float().mean()))


def test_confidence_that_is_no_number_is_none():
    meter = Classification(num_classes=2).class_meter(CPU)
    meter.update(torch.tensor([[torch.nan, 0.0], [0.0, 0.0]]), torch.tensor([1, 0]))
    calibration = meter.compute().calibration
    assert calibration["bins"][0]["count"] == 1
    assert calibration["bins"][7]["confidence"] == 0.5


def test_of_a_huge_number_of_classes_there_is_no_report():
    assert Classification(num_classes=4097).class_meter(CPU) is None
    assert isinstance(Classification(num_classes=2), ByClass)


def test_segmentation_is_scored_by_the_pixels_that_count():
    logits, targets = measuring.outputs()
    meter = measuring.TASK.class_meter(CPU)
    meter.update(logits, targets)
    report, counts = meter.compute(), targets != -100
    truth, predicted = targets[counts], logits.argmax(1)[counts]
    assert report.confusion == confusion_matrix(truth, predicted).tolist()
    assert report.count == truth.bincount().tolist()
    assert report.calibration is None
    heading, values = report.metrics["iou"]
    assert heading == "IoU"
    assert values == pytest.approx(jaccard_score(truth, predicted, average=None))
    mean = measuring.TASK.meter(CPU)
    mean.update(logits, targets)
    measured = mean.compute()
    for name, of in (("miou", "iou"), ("mrec", "recall"), ("mprec", "precision")):
        assert measured[name] == pytest.approx(np.mean(report.metrics[of][1]))


def test_of_detections_the_average_precision_is_that_of_the_mean():
    output, target = scenes(6)
    meter, mean = BOXES.class_meter(CPU), BOXES.meter(CPU)
    for each in (meter, mean):
        each.update(output, target)
    report = meter.compute()
    (heading, values) = report.metrics["ap"]
    there = [value for value in values if value is not None]
    assert heading == "AP (VOC 2007)"
    assert report.confusion is None
    assert np.mean(there) == pytest.approx(mean.compute()["map"])
    assert np.mean(there) > 0
    kinds = target[target[..., 5] == 0][:, 0].long()  # padding and difficult ones left out
    assert report.count == kinds.bincount(minlength=2).tolist()
    empty = BOXES.class_meter(CPU).compute()
    assert (empty.count, empty.metrics["ap"][1]) == ([0, 0], [None, None])
