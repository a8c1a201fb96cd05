import pytest
import torch
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from kdx.data import MemoryImages, VectorImages
from kdx.tasks import Regression, decisions_of, numbers_of, primary_metric
from tests.unit.kdx.tasks.measuring_vectors import NUMBERS, numbers

CPU = torch.device("cpu")
IMAGES = torch.zeros(2, 1, 4, 4)


def measured(meter, output, target):
    for each in zip(output.split(7), target.split(7), strict=True):
        meter.update(*each)
    return meter.compute()


def in_units():
    mean, std = torch.tensor([100.0, -3.0]).double(), torch.tensor([20.0, 0.5]).double()
    return [each.double() * std + mean for each in numbers()]


def test_metrics_against_sklearn():
    found = measured(NUMBERS.meter(CPU), *numbers())
    output, target = in_units()
    mae = mean_absolute_error(target, output, multioutput="raw_values")
    rmse = root_mean_squared_error(target, output, multioutput="raw_values")
    standard = [each.double() for each in numbers()]
    expected = {
        "r2": r2_score(target, output),
        "mae": mae.mean(),
        "rmse": rmse.mean(),
        "mae/a": mae[0],
        "mae/b": mae[1],
        "loss": (standard[0] - standard[1]).square().mean().item(),
    }
    assert found == pytest.approx(expected, rel=1e-9)


def test_each_output_against_sklearn():
    report = measured(NUMBERS.class_meter(CPU), *numbers())
    output, target = in_units()
    r2 = r2_score(target, output, multioutput="raw_values")
    mae = mean_absolute_error(target, output, multioutput="raw_values")
    assert report.metrics["r2"] == ("R2", pytest.approx(r2.tolist()))
    assert report.metrics["mae"] == ("MAE", pytest.approx(mae.tolist()))
    assert (report.count, report.confusion, report.calibration) == ([40, 40], None, None)


@pytest.mark.parametrize(("error", "r2"), [(0.0, 1.0), (0.5, 0.0)])
def test_equal_targets(error, r2):
    """As of scikit-learn: 1 without an error, else 0."""
    target = torch.full((5, 1), 0.1)
    found = measured(Regression(outputs=["x"]).meter(CPU), target + error, target)
    assert found["r2"] == r2 == r2_score(target, target + error)


def test_targets_far_from_zero_keep_their_digits():
    target = 1e6 + torch.arange(8.0)[:, None]
    output = target + torch.tensor([1.0, 0, 0, 0, -1, 0, 0, 0])[:, None]
    found = measured(Regression(outputs=["x"]).meter(CPU), output, target)
    assert found["r2"] == pytest.approx(1 - 2 / 42, abs=1e-4)


def test_the_task():
    assert primary_metric(NUMBERS) == "r2"
    assert numbers_of(NUMBERS) == ["loss", "r2", "mae", "rmse", "mae/a", "mae/b"]
    assert decisions_of(NUMBERS) is None
    assert NUMBERS.decide(torch.rand(3, 2)).shape == (3, 0)
    assert dict(NUMBERS.facts) == {
        "num_classes": 2,
        "target_mean": [100.0, -3.0],
        "target_std": [20.0, 0.5],
    }
    assert NUMBERS.draw(IMAGES[0], torch.zeros(2), torch.zeros(2)) is None


def test_refusals():
    NUMBERS.check(torch.zeros(2, 2), IMAGES)
    with pytest.raises(
        ValueError, match=r"\[2\], not \[2, 2\], one for each of the data's 2 outputs"
    ):
        NUMBERS.check(torch.zeros(2), IMAGES)
    images = MemoryImages(torch.zeros(1, 1, 4, 4).byte(), torch.zeros(1).long(), "toy")
    with pytest.raises(ValueError, match=r"toy\[0\]: target 1 is nan, not finite"):
        NUMBERS.check_source(VectorImages(images, torch.tensor([[1.0, torch.nan]])))
