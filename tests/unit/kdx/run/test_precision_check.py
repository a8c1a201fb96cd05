from types import SimpleNamespace

import pytest
import torch

from kdx.protocols import Outputs
from kdx.run.precision_check import PrecisionCheck
from kdx.tasks import Classification

IMAGES = torch.zeros(3, 1, 2, 2)


def compared(found, exact):
    """Return what is said of a teacher that answers `found`, in float32 `exact`, for 3 images."""
    teacher = SimpleNamespace(running_in=lambda precision: lambda images: Outputs(exact))
    own = type("Own", (), {"__call__": lambda self, images: Outputs(found)})()
    own.running_in = teacher.running_in
    accelerator = SimpleNamespace(device=torch.device("cpu"))
    job = SimpleNamespace(task=Classification(num_classes=2))
    runtime = SimpleNamespace(job=job, accelerator=accelerator, gather=lambda values: values)
    check = PrecisionCheck(own, runtime)
    for _ in range(2):
        check(IMAGES)
    return check.described()


def test_the_largest_error_and_all_changed_predictions_are_told():
    exact = torch.tensor([[4.0, 0.0], [1.0, 0.9], [0.0, 2.0]])
    said = compared(exact + torch.tensor([0.0, 0.2]), exact)
    assert said == (
        "outputs differ from float32 by at most 5.0e-02 of the largest; 2 of 6 predictions changed"
    )


def test_outputs_of_zeros_have_no_largest():
    said = compared(torch.zeros(3, 2), torch.zeros(3, 2))
    assert said.startswith("outputs differ from float32 by at most 0.0e+00")


@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_outputs_that_overflow_are_refused(bad):
    with pytest.raises(ValueError, match="outputs are NaN or Inf: use 'no'"):
        compared(torch.full((3, 2), bad), torch.zeros(3, 2))
