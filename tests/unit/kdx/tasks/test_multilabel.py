import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from kdx.data import MemoryImages, VectorImages
from kdx.tasks import MultiLabel, decisions_of, numbers_of, primary_metric
from tests.unit.kdx.tasks.measuring_vectors import labels, parts
from tests.unit.kdx.tasks.worlds import shared

CPU = torch.device("cpu")
TASK = MultiLabel(num_classes=4, chance=0.4)
IMAGES = torch.zeros(2, 1, 4, 4)


def source(targets):
    pixels = torch.zeros(len(targets), 1, 4, 4, dtype=torch.uint8)
    images = MemoryImages(pixels, torch.zeros(len(targets), dtype=torch.int64), "toy")
    return VectorImages(images, torch.tensor(targets, dtype=torch.float32))


def measured(meter, logits, target):
    for each in zip(logits.split(7), target.split(7), strict=True):
        meter.update(*each)
    return meter.compute()


def known_labels():
    """Return (truth, logits) of each label that has some, without those that are unknown."""
    logits, target = labels()
    return [(t[t >= 0], z[t >= 0]) for t, z in zip(target.T[:3], logits.T[:3], strict=True)]


def test_metrics_against_sklearn():
    found = measured(TASK.meter(CPU), *labels())
    pairs = known_labels()
    ap = [average_precision_score(t, z) for t, z in pairs]
    f1 = [f1_score(t, z > 0) for t, z in pairs]
    truth, said = (torch.cat(each) for each in zip(*pairs, strict=True))
    logits, target = labels()
    loss = F.binary_cross_entropy_with_logits(logits, target.clamp(min=0), reduction="none")
    each = loss.where(target >= 0, 0).sum(1) / (target >= 0).sum(1)
    expected = {
        "map": sum(ap) / 3,
        "f1": f1_score(truth, said > 0),
        "f1_macro": sum(f1) / 3,
        "loss": each.mean().item(),
    }
    assert found == pytest.approx(expected, abs=1e-6)


def test_each_label_against_sklearn():
    report = measured(TASK.class_meter(CPU), *labels())
    scores = {
        "ap": average_precision_score,
        "precision": lambda t, z: precision_score(t, z > 0),
        "recall": lambda t, z: recall_score(t, z > 0),
        "f1": lambda t, z: f1_score(t, z > 0),
    }
    assert report.metrics["ap"][0] == "average precision"
    for name, score in scores.items():
        *values, unknown = report.metrics[name][1]
        assert values == pytest.approx([score(t, z) for t, z in known_labels()], abs=1e-6)
        assert unknown is None
    assert report.count == [int(t.sum()) for t, _ in known_labels()] + [0]
    assert report.confusion is None


def test_calibration_is_of_the_decisions_for_and_against_known_labels():
    logits, target = labels()
    known = target >= 0
    sure = torch.maximum(logits.sigmoid(), 1 - logits.sigmoid())[known]
    right = ((logits > 0) == target)[known].double()
    ece = 0.0
    for low in torch.arange(15) / 15:
        inside = (sure > low) & (sure <= low + 1 / 15)
        ece += abs(float((right - sure)[inside].sum())) / int(known.sum())
    found = measured(TASK.class_meter(CPU), logits, target).calibration
    assert found["ece"] == pytest.approx(ece, abs=1e-6)
    assert sum(row["count"] for row in found["bins"]) == int(known.sum())


def test_large_logits_keep_their_order():
    """A sigmoid in float32 is 1 above 17: the order would be lost."""
    logits, target = torch.tensor([[40.0], [30.0], [20.0]]), torch.tensor([[1.0], [0.0], [1.0]])
    assert measured(MultiLabel(num_classes=1).meter(CPU), logits, target)["map"] == pytest.approx(
        (1 + 2 / 3) / 2
    )


def test_without_labels_all_is_zero():
    for target in (torch.zeros(3, 4), -torch.ones(3, 4)):
        found = measured(TASK.meter(CPU), -torch.ones(3, 4), target)
        assert (found["map"], found["f1"], found["f1_macro"]) == (0, 0, 0)


@pytest.mark.long
def test_two_processes_of_which_one_has_no_images(tmp_path):
    one, other = shared(parts, tmp_path)
    alone = parts(0)
    for found in (one, other):
        for each, expected in zip(found, alone, strict=True):
            assert each == pytest.approx(expected, abs=1e-6)


def test_the_task():
    assert primary_metric(TASK) == "map"
    assert numbers_of(TASK) == ["loss"]
    assert decisions_of(TASK) == (4,)
    assert dict(TASK.facts) == {"num_classes": 4}
    assert TASK.decide(torch.tensor([[0.1, -0.1, 0.0, 9]])).tolist() == [[1, 0, 0, 1]]
    assert TASK.draw(IMAGES[0], torch.zeros(4), torch.zeros(4)) is None


def test_refusals():
    TASK.check(torch.zeros(2, 4), IMAGES)
    with pytest.raises(
        ValueError, match=r"for 2 images is \[2, 3\], not \[2, 4\], one for each of"
    ):
        TASK.check(torch.zeros(2, 3), IMAGES)
    TASK.check_source(source([[1, 0, -1, 0]]))
    with pytest.raises(
        ValueError, match=r"toy\[1\]: target 2 is 0.5, not 1, 0, or -1 .*; 1 targets"
    ):
        TASK.check_source(source([[1, 0, -1, 0], [0, 0, 0.5, 0]]))
    with pytest.raises(ValueError, match=r"targets are \[1, 2\], not \[1, 4\]"):
        TASK.check_source(source([[1, 0]]))
    with pytest.raises(
        ValueError, match=r"MemoryImages has no `targets` \[N, 4\]: use kdx.data.Vec"
    ):
        TASK.check_source(source([[1, 0]]).images)
