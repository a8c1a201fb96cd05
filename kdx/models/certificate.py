"""The certificate: the compact network compared with the one that was trained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kdx.recipe.sections import Tolerance
from kdx.util.copies import copied
from kdx.util.words import listed

APART = 100  # times larger logits are those of a masked class, or of another kind
LEAST = 0.01  # a size of logits below which a class plays no part
CHANGED = 10  # tolerances: the share of predictions that may change


@dataclass(frozen=True)
class Errors:
    """The largest difference between the logits, as it is and as a share of the largest logit.

    Logits more than 100 times as large as all those of a class, or of an image, do not count as the
    largest for that class or image, so that one masked class (-1e9) does not hide the others.
    """

    max_abs_error: float
    max_rel_error: float
    tolerance: float
    images: int


@dataclass(frozen=True)
class Certificate:
    """Trained against compact network, in eval mode, on the same images; made by `certify`.

    It holds if `problems` is empty. `float32` are the errors of the exported network, `float64`
    those of the trained network restored in float64, None if it cannot run in it, as where its
    forward sets a dtype. Of `predictions` (one an image, a pixel or a
    cell of a detector's grid), `predictions_changed` differ. `parameters` counts those of "trained"
    and "compact"; `metrics` are what `certify` was given, those of "trained" and "compact" may
    differ by `metric_tolerances`. `not_repeated` names tensors that differed when restored again.
    """

    float32: Errors
    float64: Errors | None
    predictions_changed: int
    predictions: int
    parameters: dict[str, int]
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    metric_tolerances: Mapping[str, float] = field(default_factory=dict)
    not_repeated: Sequence[str] = ()

    @property
    def errors(self) -> dict[str, Errors]:
        """The errors by dtype."""
        return {"float32": self.float32} | ({"float64": self.float64} if self.float64 else {})

    @property
    def difference(self) -> str:
        """The errors in words: "1.2e-07 (float32), 2.1e-16 (float64) of the largest logit"."""
        found = (f"{each.max_rel_error:.1e} ({name})" for name, each in self.errors.items())
        return f"{', '.join(found)} of the largest logit"

    @property
    def problems(self) -> list[str]:
        """What is out of tolerance, a sentence each. NaN and Inf of logits always are."""
        differ = "compact and trained network differ in"
        found = [
            f"{differ} {name}: the largest error is "
            f"{errors.max_rel_error:.3g} of the largest logit, the tolerance {errors.tolerance:g}"
            for name, errors in self.errors.items()
            if not errors.max_rel_error <= errors.tolerance
        ]
        most = max(1, int(CHANGED * self.float32.tolerance * self.predictions))
        if self.predictions_changed > most:
            changed = f"{self.predictions_changed:,} of {self.predictions:,} changed"
            found.append(f"{differ} predictions: {changed}, at most {most:,} may")
        for name, allowed in self.metric_tolerances.items():
            before, after = self.metrics["trained"][name], self.metrics["compact"][name]
            same = before == after or (before != before and after != after)  # NaN of both
            if not (same or abs(after - before) <= allowed):
                found.append(f"{differ} {name} of all images: {before:.6g} trained, {after:.6g} "
                             f"compact, the tolerance {allowed:.2g}")  # fmt: skip
        if self.not_repeated:
            found.append(f"restoring is not repeatable: {listed(self.not_repeated)} differed at "
                         "the second call, of the same network")  # fmt: skip
        return found

    def __str__(self) -> str:
        """Return what it says in a sentence; its problems, if it does not hold."""
        holds = f"compact and trained network differ by {self.difference}"
        return f"does not hold: {'; '.join(self.problems)}" if self.problems else f"holds: {holds}"

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
    exported: nn.Module | None = None,
    decide: Callable[[Tensor], Tensor] = lambda logits: logits.argmax(1),
    in_float64: int = 1,
    metrics: Mapping[str, Mapping[str, float]] | None = None,
    metric_tolerances: Mapping[str, float] | None = None,
) -> Certificate:
    """Compare `trained` with `restore(trained)` on batches of images [B, C, H, W], one or more.

        certificate = certify(student, expand.compress, [images])
        assert not certificate.problems

    Runs on copies, in eval mode on the CPU, where float32 is float32 (no TF32) and float64
    exists. `trained` is not changed. `restore` returns the compact network as a new module.
    `exported` is the compact network that is used later on, best read back from its file: in
    float32 that very network is compared, and restoring once more must give its tensors again; by
    default it is restored here. Rounded to float32 as it is, it says nothing in float64: there the
    trained network is restored in float64, and compared on the first `in_float64` batches.

    `tolerance` is the largest error allowed, as a share of the largest logit (see `Errors`): by
    default 1e-4 in float32 and 1e-9 in float64; of the predictions, a share of 10 times the first
    may change, and one always. `decide` turns logits into predictions, by default the likeliest
    class along dimension 1. `metrics` are those of "trained" and "compact", which may differ by
    `metric_tolerances`. A network that cannot run in float64, as one whose forward has a
    `softmax(x, dtype=torch.float32)`, is compared in float32 alone.

    Raises what `restore` raises, and ValueError for a network that cannot be copied; a network out
    of tolerance raises nothing, see `Certificate.problems`.
    """
    network = copied(trained).to("cpu", torch.float64).eval()
    compact = restore(network).eval()
    try:
        double, _, _ = _compare(network, compact, batches[:in_float64], tolerance.float64, decide)
    except RuntimeError:  # of float64, or of the network in float32 as well: then below again
        double = None
    network = copied(trained).to("cpu", torch.float32).eval()
    compact = copied(exported or restore(network)).to("cpu", torch.float32).eval()
    again = restore(network).to("cpu", torch.float32)
    single, changed, all = _compare(network, compact, batches, tolerance.float32, decide)
    return Certificate(
        single,
        double,
        changed,
        all,
        {"trained": count_parameters(trained), "compact": count_parameters(compact)},
        dict(metrics or {}),
        dict(metric_tolerances or {}),
        _unequal(compact, again, tolerance.float32),
    )


def _compare(
    trained: nn.Module,
    compact: nn.Module,
    batches: Sequence[Tensor],
    tolerance: float,
    decide: Callable[[Tensor], Tensor],
) -> tuple[Errors, int, int]:
    """Return the errors, the predictions that changed, and how many there are."""
    dtype = next((value.dtype for value in trained.parameters()), torch.float32)
    images = (batch.to("cpu", torch.float32).to(dtype) for batch in batches)
    return summed([see(trained(x), compact(x), decide) for x in images], tolerance)


Seen = tuple[Tensor, Tensor, Tensor, Tensor]


def see(expected: Tensor, found: Tensor, decide: Callable[[Tensor], Tensor]) -> Seen:
    """Return the largest errors and logits [B, C], and [1] predictions that changed, and all.

    Of two networks' logits of a batch. The logits themselves need not be kept: those of pixels are
    large.
    """
    changed = decide(expected) != decide(found)
    counts = changed.sum().view(1), torch.tensor([changed.numel()])
    return _largest(expected - found), _largest(expected), *counts


def summed(seen: Sequence[Seen], tolerance: float) -> tuple[Errors, int, int]:
    """Return the errors over batches, the predictions that changed, and how many there are."""
    error, size, changed, all = (torch.cat(each) for each in zip(*seen, strict=True))
    of_class, of_image = _ordinary(size.amax(0)), _ordinary(size.amax(1))
    scale = torch.minimum(of_class, of_image[:, None])
    relative = error / scale.where(scale != 0, 1)
    worst = error.max().item(), relative.max().item()
    return Errors(*worst, tolerance, len(error)), int(changed.sum()), int(all.sum())


def _largest(logits: Tensor) -> Tensor:
    """Return the largest absolute values of logits [B, C, ...] as float64 [B, C]."""
    return logits.abs().flatten(2).amax(2).double() if logits.ndim > 2 else logits.abs().double()


def _ordinary(sizes: Tensor) -> Tensor:
    """Return, for each of some sizes [n], the largest of those that are not far above it."""
    ordered = sizes.sort().values
    near = torch.searchsorted(ordered, APART * sizes.clamp(min=LEAST), right=True) - 1
    return ordered[near]


def _unequal(one: nn.Module, other: nn.Module, tolerance: float) -> list[str]:
    """Name the tensors of a state dict that differ by more than rounding, or are missing."""
    found, again = one.state_dict(), other.state_dict()
    return [
        name
        for name in {**found, **again}
        if not (name in found and name in again and _close(found[name], again[name], tolerance))
    ]


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    if one.shape != other.shape:
        return False
    one, other = one.double(), other.double()
    scale = one[one.isfinite()].abs().amax().item() if one.isfinite().any() else 0.0
    return torch.allclose(one, other, rtol=0, atol=tolerance * scale, equal_nan=True)


def count_parameters(module: nn.Module) -> int:
    """Count the numbers that a network learns."""
    return sum(p.numel() for p in module.parameters())
