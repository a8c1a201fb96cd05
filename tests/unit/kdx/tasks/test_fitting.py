import pytest

from kdx.losses import BCE, BCEKD, DKD, KD, L1, MSE, PKT, CrossEntropy, SmoothL1, TfKD
from kdx.tasks import (
    Classification,
    Detection,
    MultiLabel,
    Regression,
    Segmentation,
    check_loss,
    counted_outputs,
)

ONE = Classification(num_classes=2)
PIXELS = Segmentation(classes="ab")
BOXES = Detection(classes="ab", anchors=[[1, 1]])
MANY = MultiLabel(num_classes=2)
NUMBERS = Regression(outputs="ab")


@pytest.mark.parametrize("loss", [CrossEntropy(), KD(), DKD(), TfKD()])
def test_losses_of_a_class(loss):
    for task in (ONE, PIXELS, BOXES):
        check_loss(task, loss)
    use = "has several labels an image: use bce, or bce_kd to learn from a teacher"
    with pytest.raises(ValueError, match=f"a loss for one class an image or pixel, but .* {use}"):
        check_loss(MANY, loss)
    with pytest.raises(
        ValueError, match="has numbers: use mse, l1 or smooth_l1, or these with `to:"
    ):
        check_loss(NUMBERS, loss)


@pytest.mark.parametrize("loss", [BCE(), BCEKD()])
def test_losses_of_labels(loss):
    check_loss(MANY, loss)
    for task in (ONE, PIXELS, NUMBERS):
        with pytest.raises(ValueError, match="a loss for several labels an image, but the data"):
            check_loss(task, loss)


@pytest.mark.parametrize("loss", [MSE, L1, SmoothL1])
def test_losses_of_numbers(loss):
    check_loss(NUMBERS, loss())
    for task in (ONE, PIXELS, MANY):
        check_loss(task, loss(to="teacher"))
        with pytest.raises(ValueError, match="a loss for numbers, but the data set has"):
            check_loss(task, loss())


def test_losses_on_features_suit_all():
    for task in (ONE, PIXELS, BOXES, MANY, NUMBERS):
        check_loss(task, PKT(student_layer="a", teacher_layer="b"))


def test_what_networks_output_is_counted_in_its_own_words():
    found = [counted_outputs(task, 2) for task in (ONE, PIXELS, BOXES, MANY, NUMBERS)]
    assert found == ["2 classes"] * 3 + ["2 labels", "2 outputs"]
    assert counted_outputs(ONE, 1) == "1 class"
