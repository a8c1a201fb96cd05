"""What the certificate of a run compares: images, and metrics up to a tolerance."""

from collections.abc import Mapping
from math import prod

from torch import Tensor

from kdx.data import Views
from kdx.launch.memory import at_once
from kdx.tasks import numbers_of
from kdx.training.runtime import Runtime

CERTIFIED = 1024  # images of the evaluation split on which the certificate compares logits
MOST_PIXELS = 2**24  # of them all
BATCH = 256
PRECISIONS = {"no": 2**-24, "fp16": 2**-11, "bf16": 2**-8, "fp8": 2**-4}  # relative rounding


def spread_images(views: Views) -> list[Tensor]:
    """Return images spread over the views, in batches: two images or more, if there are two."""
    count = min(CERTIFIED, max(2, MOST_PIXELS // prod(views.shape[1:])))
    return [each.images for each in views.spread(count, min(BATCH, at_once(views.shape)))]


def metric_tolerances(
    runtime: Runtime, trained: Mapping[str, float], images: int
) -> dict[str, float]:
    """Return how far metrics of trained and compact network may be apart: rounding, an image.

    A share, by the precision of the evaluation; and, for shares of images, what one image counts.
    """
    rounding = PRECISIONS[runtime.accelerator.mixed_precision]
    if runtime.accelerator.device.type != "cpu":
        rounding = max(rounding, PRECISIONS["fp16"])  # TF32 has the mantissa of fp16
    share = max(runtime.job.recipe.tolerance.float32, 8 * rounding)
    numbers = numbers_of(runtime.job.task)
    return {
        name: share * max(1.0, abs(value)) + (0 if name in numbers else 1 / images)
        for name, value in trained.items()
    }
