"""The certificate: the compact network compared with the one that was trained."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdx.recipe.sections import Tolerance


@dataclass(frozen=True)
class Errors:
    """The largest difference between the logits, as it is and as a share of the largest logit."""

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    images: int


@dataclass(frozen=True)
class Certificate:
    """Trained against compact network, in eval mode, on the same images; made by `certify`.

    It holds if `problems` is empty. `float32` and `float64` are the errors of the logits in each
    dtype. Of `predictions` (one an image, a pixel or a cell of a detector's grid),
    `predictions_changed` differ. `parameters` counts those of "trained" and "compact"; `metrics`
    are what `certify` was given.
    """

    float32: Errors
    float64: Errors
    predictions_changed: int
    predictions: int
    parameters: dict[str, int]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is out of tolerance, a sentence for each dtype. NaN and Inf always are."""
        return [
            f"compact and trained network differ in {name}: the largest error is "
            f"{errors.max_rel_error:.3g} of the largest logit, the tolerance {errors.tolerance:g}"
            for name, errors in (("float32", self.float32), ("float64", self.float64))
            if not errors.max_rel_error <= errors.tolerance
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the content of certificate.json: the fields, and "holds"."""
        return {"holds": not self.problems} | asdict(self)


@torch.no_grad()
def certify(
    trained: nn.Module,
    restore: Callable[[nn.Module], nn.Module],
    batches: Sequence[Tensor],
    tolerance: Tolerance = Tolerance(),  # noqa: B008 - it is frozen
    *,
    decide: Callable[[Tensor], Tensor] = lambda logits: logits.argmax(1),
    in_float64: int = 1,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> Certificate:
    """Compare `trained` with `restore(trained)` on batches of images [B, C, H, W], one or more.

        certificate = certify(student, expand.compress, [images])
        assert not certificate.problems

    Runs on copies, in eval mode on the CPU, where float32 is float32 (no TF32) and float64
    exists. `trained` is not changed. `restore` returns the compact network as a new module. The
    first `in_float64` batches are compared in float64, too.

    `tolerance` is the largest error allowed, as a share of the largest logit: by default 1e-4 in
    float32 and 1e-9 in float64. `decide` turns logits into predictions, by default the likeliest
    class along dimension 1. `metrics` are put into the certificate as they are. Raises what
    `restore` raises; a network out of tolerance raises nothing, see `Certificate.problems`.
    """
    errors, changed, predictions, compact = [], 0, 0, trained
    of_each_dtype = (
        (torch.float64, batches[:in_float64], tolerance.float64),
        (torch.float32, batches, tolerance.float32),
    )
    for dtype, part, allowed in of_each_dtype:
        network = deepcopy(trained).to("cpu", dtype).eval()
        compact = restore(network).eval()
        images = (batch.to("cpu", torch.float32).to(dtype) for batch in part)
        seen = torch.stack([_compare(network, compact, batch, decide) for batch in images])
        difference, largest = seen[:, :2].amax(0).tolist()
        changed, predictions = map(int, seen[:, 2:].sum(0))
        relative = difference / largest if largest else difference
        errors.append(Errors(difference, relative, allowed, sum(map(len, part))))
    double, single = errors
    parameters = {"trained": count_parameters(trained), "compact": count_parameters(compact)}
    return Certificate(single, double, changed, predictions, parameters, dict(metrics or {}))


def _compare(
    trained: nn.Module, compact: nn.Module, images: Tensor, decide: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return [4]: the largest difference and logit, predictions that changed, and all (float64).

    The logits themselves are not kept: those of pixels are large.
    """
    expected, found = trained(images), compact(images)
    predictions, others = decide(expected), decide(found)
    largest = (expected - found).abs().max().item(), expected.abs().max().item()
    changed = (predictions != others).sum().item()
    return torch.tensor([*largest, changed, predictions.numel()], dtype=torch.float64)


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that a network learns."""
    return sum(p.numel() for p in module.parameters())
