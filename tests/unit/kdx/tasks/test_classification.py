import pytest
import torch

from kdx.data import MemoryImages
from kdx.protocols import ImageData, InputSpec
from kdx.tasks import Classification, primary_metric, task_of

TASK = Classification(num_classes=3)
IMAGES = torch.zeros(2, 1, 4, 4)


def source(*labels):
    pixels = torch.zeros(len(labels), 1, 4, 4, dtype=torch.uint8)
    return MemoryImages(pixels, torch.tensor(labels), "toy")


def test_a_data_set_without_a_task_is_classified():
    data = ImageData(source(0), source(1), "abcd", InputSpec(1, 4, (0.5,), (0.5,)))
    task = task_of(data)
    assert (dict(task.facts), task.chance, primary_metric(task)) == (
        {"num_classes": 4},
        0.25,
        "top1",
    )
    assert task_of(ImageData(data.train, data.test, "ab", data.input, task=TASK)) is TASK


@pytest.mark.parametrize(("classes", "names"), [(5, ["top1"]), (6, ["top1", "top5"])])
def test_there_is_a_top_five_where_there_are_more_classes(classes, names):
    task = Classification(num_classes=classes)
    assert [*task.metrics] == names
    meter = task.meter(torch.device("cpu"))
    meter.update(torch.eye(classes)[:2], torch.tensor([0, 2]))
    assert meter.compute().keys() == {*names, "loss"}


def test_outputs_are_logits():
    TASK.check(torch.zeros(2, 3), IMAGES)
    with pytest.raises(ValueError, match=r"output for 2 images is \[2, 4\], not logits \[2, 3"):
        TASK.check(torch.zeros(2, 4), IMAGES)
    with pytest.raises(ValueError, match="output for 2 images is dict, not logits"):
        TASK.check({}, IMAGES)


def test_labels_are_classes():
    TASK.check_source(source(0, 2, 1))
    with pytest.raises(ValueError, match=r"toy\[2\]: label 3 is not in \[0, 3\); 1 of 3 labels"):
        TASK.check_source(source(0, 1, 3))
    with pytest.raises(ValueError, match=r"toy\[0\]: label -1 is not in \[0, 3\); 1 of 2 labels"):
        TASK.check_source(source(-1, 0))


def test_of_equal_logits_the_top_five_have_the_likeliest():
    meter = Classification(num_classes=8).meter(torch.device("cpu"))
    meter.update(torch.zeros(2, 8), torch.tensor([0, 0]))
    found = meter.compute()
    assert (found["top1"], found["top5"]) == (1, 1)


def test_it_decides_for_the_likeliest_class_and_draws_nothing():
    output = torch.tensor([[0.0, 2.0, 1.0], [3.0, 0.0, 1.0]])
    assert TASK.decide(output).tolist() == [1, 0]
    pixels = torch.zeros(3, 4, 4, dtype=torch.uint8)
    assert TASK.draw(pixels, torch.tensor(1), output[0]) is None
