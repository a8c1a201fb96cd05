"""The certificate: the compact network against the one that was trained."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from kdx.recipe.sections import Tolerance

__all__ = ["Certificate", "Tolerances", "certify", "count_parameters"]

TOLERANCE = Tolerance()  # a recipe's default


class Tolerances(Protocol):
    """The largest error allowed, as a share of the largest logit."""

    @property
    def float32(self) -> float:
        """In float32."""
        ...

    @property
    def float64(self) -> float:
        """In float64."""
        ...


@dataclass(frozen=True)
class Errors:
    """The largest difference between the logits, plain and as a share of the largest logit."""

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    images: int


@dataclass(frozen=True)
class Certificate:
    """Expanded against compact, in eval mode, on the same images.

    `predictions` counts what was decided: classes of images or of pixels, objects of a grid.
    `metrics` are those of both on the evaluation split, `parameters` those of both.
    """

    float32: Errors
    float64: Errors
    predictions_changed: int
    predictions: int
    parameters: dict[str, int]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """What is out of tolerance; empty for a certificate that holds. NaN never holds."""
        return [
            f"the compact network differs from the trained one by {errors.max_rel_error:.3g} of "
            f"the largest logit in {name}; the tolerance is {errors.tolerance:g}"
            for name, errors in (("float32", self.float32), ("float64", self.float64))
            if not errors.max_rel_error <= errors.tolerance
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the certificate as it is written to certificate.json."""
        return {"holds": not self.problems} | asdict(self)


class _Batch(NamedTuple):
    """What is kept of the logits of a batch, which are large where they are of pixels."""

    difference: Tensor
    largest: Tensor
    images: int
    predictions: int
    changed: int


def _likeliest(answer: Tensor) -> Tensor:
    return answer.argmax(1)


@torch.no_grad()
def certify(
    trained: nn.Module,
    restore: Callable[[nn.Module], nn.Module],
    batches: Sequence[Tensor],
    tolerance: Tolerances = TOLERANCE,
    *,
    decide: Callable[[Tensor], Tensor] = _likeliest,
    in_float64: int = 1,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
) -> Certificate:
    """Compare `trained` with `restore(trained)` on batches of images [B, C, H, W].

    Runs on the CPU, where float32 is float32 (no TF32) and float64 exists. The first
    `in_float64` batches are compared in float64 as well. `trained` is left alone. `decide` says
    what an answer's predictions are, `metrics` are put down as they are.
    """
    single = deepcopy(trained).to("cpu", torch.float32).eval()
    compact = restore(single).eval()
    double = deepcopy(trained).to("cpu", torch.float64).eval()
    compact_double = restore(double).eval()
    batches = [images.cpu().float() for images in batches]
    seen = [_compared(single(images), compact(images), decide) for images in batches]
    seen_double = [
        _compared(double(images), compact_double(images), decide)
        for images in (part.double() for part in batches[:in_float64])
    ]
    return Certificate(
        _errors(seen, tolerance.float32),
        _errors(seen_double, tolerance.float64),
        sum(each.changed for each in seen),
        sum(each.predictions for each in seen),
        {"trained": count_parameters(trained), "compact": count_parameters(compact)},
        dict(metrics or {}),
    )


def _compared(trained: Tensor, compact: Tensor, decide: Callable[[Tensor], Tensor]) -> _Batch:
    predictions = decide(trained)
    return _Batch(
        (trained - compact).abs().max(),
        trained.abs().max(),
        len(trained),
        predictions.numel(),
        int((predictions != decide(compact)).sum()),
    )


def _errors(seen: Sequence[_Batch], tolerance: float) -> Errors:
    difference = torch.stack([each.difference for each in seen]).max().item()
    largest = torch.stack([each.largest for each in seen]).max().item()
    relative = difference / largest if largest else difference
    return Errors(difference, relative, tolerance, sum(each.images for each in seen))


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that a network learns."""
    return sum(p.numel() for p in module.parameters())
