from math import log

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from kdx.losses import CrossEntropy
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs


def test_contract():
    check_loss(CrossEntropy)
    check_loss(lambda: CrossEntropy(label_smoothing=0.1))


def test_equal_logits_cost_the_log_of_the_classes():
    value = CrossEntropy()(Outputs(torch.zeros(4, 5, dtype=torch.float64)), None, TARGET)
    assert value.item() == pytest.approx(log(5), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_against_numpy(smoothing):
    student = outputs({}, dtype=torch.float64)
    logits = student.logits.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = (1 - smoothing) * np.eye(5)[TARGET] + smoothing / 5
    expected = -(wanted * np.log(p)).sum(1).mean()
    value = CrossEntropy(label_smoothing=smoothing)(student, None, TARGET)
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_gradient_reaches_the_student_alone():
    student, teacher = outputs({}), outputs({}, seed=1)
    CrossEntropy()(student, teacher, TARGET).backward()
    expected = (student.logits.softmax(1) - torch.eye(5)[TARGET]) / 4
    torch.testing.assert_close(student.logits.grad, expected)
    assert teacher.logits.grad is None


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(ValueError, match=rf"label_smoothing: {smoothing} is not in \[0, 1\)"):
        CrossEntropy(label_smoothing=smoothing)


def test_equal_logits_of_pixels_cost_the_log_of_the_classes():
    target = torch.tensor([[[0, 1], [-100, 2]]])
    value = CrossEntropy()(Outputs(torch.zeros(1, 3, 2, 2, dtype=torch.float64)), None, target)
    assert value.item() == pytest.approx(log(3), abs=1e-12)


def pixels(dtype=torch.float64):
    """Logits [3, 5, 4, 6], and targets of which the second image has few, the third has none."""
    torch.manual_seed(0)
    target = torch.randint(5, (3, 4, 6))
    target[1, 1:] = -100
    target[2] = -100
    return torch.randn(3, 5, 4, 6, dtype=dtype), target


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, [0.5, 0, 1, 2, 4]])
def test_pixels_against_numpy(smoothing, weights):
    logits, target = pixels()
    loss = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    value = loss(Outputs(logits), None, target)
    logp = logits.log_softmax(1).numpy()
    w = np.array(weights or [1] * 5)
    images = []
    for image, wanted in zip(logp, target.numpy(), strict=True):
        each = [
            -(1 - smoothing) * w[c] * image[c, i, j] - smoothing / 5 * (w @ image[:, i, j])
            for (i, j), c in np.ndenumerate(wanted)
            if c != -100
        ]
        images.append(np.mean(each) if each else 0)
    assert value.item() == pytest.approx(np.mean(images), abs=1e-12)


def test_parts_of_a_batch_add_up_to_the_whole():
    logits, target = pixels()
    values, gradients = [], []
    for parts in ([3], [1, 2]):
        leaf = logits.clone().requires_grad_()
        value = sum(
            len(t) / 3 * CrossEntropy(class_weights=[1, 2, 3, 4, 5])(Outputs(part), None, t)
            for part, t in zip(leaf.split(parts), target.split(parts), strict=True)
        )
        value.backward()
        values.append(value.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(*values, rtol=1e-14, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=0)


def test_pixels_that_are_ignored_get_no_gradient():
    logits, target = pixels()
    logits.requires_grad_()
    CrossEntropy(label_smoothing=0.1)(Outputs(logits), None, target).backward()
    reached = logits.grad.abs().sum(1) > 0
    assert torch.equal(reached, target != -100)


def test_a_batch_without_any_pixel_costs_nothing():
    logits = torch.randn(2, 5, 3, 3, requires_grad=True)
    value = CrossEntropy()(Outputs(logits), None, torch.full((2, 3, 3), -100))
    value.backward()
    assert value == 0
    assert not logits.grad.any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_pixels_of_half_precision_are_computed_in_float32(dtype):
    logits, target = pixels(dtype)
    loss = CrossEntropy(class_weights=[1, 2, 3, 4, 5])
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(Outputs(logits), None, target)
    assert torch.equal(value, loss(Outputs(logits.float()), None, target))


@pytest.mark.parametrize("weight", [-1.0, float("inf")])
def test_class_weights_out_of_range(weight):
    with pytest.raises(ValueError, match=f"class_weights: {weight} is not a finite number"):
        CrossEntropy(class_weights=[1, weight])
    with pytest.raises(ValueError, match="class_weights: at least one must be above 0"):
        CrossEntropy(class_weights=[0, 0.0])


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.999])
def test_effective_weights_are_inverse_sums_of_a_series(beta):
    """The effective number of n samples is 1 + beta + ... + beta^(n - 1)."""
    counts = [1200, 3, 0, 50]
    numbers = [sum(beta**i for i in range(count)) for count in counts]
    inverse = np.array([1 / each if each else 0 for each in numbers])
    made = CrossEntropy(class_weights="effective", class_counts=counts, beta=beta)
    assert made.class_weights == pytest.approx(inverse * 3 / inverse.sum())


def test_balanced_weights_are_those_of_scikit_learn():
    labels = np.repeat([0, 1, 3], [12, 3, 5])
    wanted = compute_class_weight("balanced", classes=np.unique(labels), y=labels)
    weights = CrossEntropy(class_weights="balanced", class_counts=[12, 3, 0, 5]).class_weights
    assert weights == pytest.approx([*wanted[:2], 0, wanted[2]])
    assert np.mean(np.array(weights)[labels]) == pytest.approx(1)
    with pytest.raises(ValueError, match="class_weights: 'effective' needs images with one label"):
        CrossEntropy(class_weights="effective")
    with pytest.raises(ValueError, match=r"beta: 1 is not in \[0, 1\)"):
        CrossEntropy(beta=1)
    with pytest.raises(ValueError, match="class_weights: 'balanced' needs images with one label"):
        CrossEntropy(class_weights="balanced")


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="class_weights: 2 weights for 5 classes"):
        CrossEntropy(class_weights=[1, 1])(outputs({}), None, TARGET)
    grid = Outputs(torch.zeros(2, 30, 3, 3))
    message = (
        r"cross_entropy: the logits \[2, 30, 3, 3\] have 30 channels, .* \(10\); .* use `yolo`"
    )
    with pytest.raises(ValueError, match=message):
        CrossEntropy(num_classes=10)(grid, None, torch.zeros(2, 4, 6))
    with pytest.raises(ValueError, match=r"targets \[2, 6, 6\] do not fit logits \[2, 30, 3, 3\]"):
        CrossEntropy()(grid, None, torch.zeros(2, 6, 6, dtype=torch.int64))


SOFT = torch.tensor(
    [[0.3, 0.7, 0, 0, 0], [0, 0, 1, 0, 0], [0.5, 0, 0, 0.5, 0], [0, 0, 0, 0.9, 0.1]]
)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 0.0, 3.0]])
def test_probabilities_against_numpy(smoothing, weights):
    student = outputs({}, dtype=torch.float64)
    logits = student.logits.detach().numpy()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    wanted = (1 - smoothing) * SOFT.double().numpy() + smoothing / 5
    scale = np.ones(5) if weights is None else np.array(weights)
    expected = -(scale * wanted * np.log(p)).sum(1).mean()
    loss = CrossEntropy(label_smoothing=smoothing, class_weights=weights)
    assert loss(student, None, SOFT).item() == pytest.approx(expected, abs=1e-12)
    whole = loss(student, None, torch.eye(5)[TARGET]).item()  # of one class each: as the labels
    assert whole == pytest.approx(loss(student, None, TARGET).item(), abs=1e-12)


def test_probabilities_in_half_precision_and_of_another_shape():
    student = Outputs(torch.randn(4, 5).half())
    value = CrossEntropy()(student, None, SOFT)
    assert value.dtype == torch.float32
    with pytest.raises(ValueError, match=r"targets \[4, 4\] do not fit logits \[4, 5\]"):
        CrossEntropy()(student, None, SOFT[:, :4])
