import torch
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from kdx.tasks import Classification
from kdx.tasks.sums import Confusion, Mean

CPU, CLASSES = torch.device("cpu"), 7


def batches():
    """Three batches of logits and classes, the last of one image."""
    random = torch.Generator().manual_seed(0)
    for images in (12, 9, 1):
        target = torch.randint(CLASSES, (images,), generator=random)
        yield torch.randn(images, CLASSES, generator=random), target


def test_classification_is_measured_as_by_torchmetrics():
    meter, loss = Classification(num_classes=CLASSES).meter(CPU), MeanMetric()
    tops = {f"top{k}": MulticlassAccuracy(CLASSES, top_k=k, average="micro") for k in (1, 5)}
    for logits, target in batches():
        meter.update(logits, target)
        loss.update(torch.nn.functional.cross_entropy(logits, target, reduction="none"))
        for top in tops.values():
            top.update(logits, target)
    expected = {name: float(each.compute()) for name, each in {**tops, "loss": loss}.items()}
    found = meter.compute()
    assert found.keys() == expected.keys()
    assert all(abs(found[name] - expected[name]) < 1e-6 for name in expected)


def test_confusions_are_those_of_torchmetrics_and_leave_out_what_does_not_count():
    mine, theirs = Confusion(CLASSES, CPU), MulticlassConfusionMatrix(CLASSES, ignore_index=-100)
    for logits, target in batches():
        target[::4] = -100
        mine.update(logits.argmax(1), target)
        theirs.update(logits.argmax(1), target)
    assert torch.equal(mine.compute(), theirs.compute())


def test_a_mean_keeps_nan_and_counts_each_value_once():
    mean = Mean(CPU)
    for values in ([1.0, 2.0, 6.0], [7.0]):
        mean.update(torch.tensor(values))
    assert mean.compute() == 4
    mean.update(torch.tensor([torch.nan]))
    assert mean.compute() != mean.compute()
