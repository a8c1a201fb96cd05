"""The KL divergence of softened logits, with all digits at any temperature. C: classes.

At a high temperature both softmaxes are almost uniform, and the usual sum of p (log p - log q) is
a difference of almost equal numbers: float32 loses all of its digits, and its sign. Here, with
u = log(q / p), every term of

    KL(p || q) = sum over the classes of p (exp(u) - 1 - u)
    T times its gradient = q - p = p (exp(u) - 1)

is at least 0, and u comes from the differences of logits, never from those of logarithms, where
it is small. Temperatures need no float64.
"""

from typing import Any

import torch
from torch import Tensor

from kdx.losses.shared import full_precision

__all__ = ["kl_divergence"]

NEAR = 1.0  # below this |u| q - p cancels, and p (exp(u) - 1) does not
SERIES = 0.25  # below this |u| exp(u) - 1 - u is a series
TERMS = {torch.float32: 6, torch.float64: 12}  # of the series, which keep its digits up to there
PIECES = {"cpu": 2**16, "gpu": 2**24}  # logits at once: what the caches, or the memory, hold


@full_precision
def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float, dim: int = 1) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) of logits, summed over `dim` of C.

    Logits are [B, C, ...] or of any shape; the result lacks `dim`, is not multiplied by T^2, at
    least 0, and 0 for equal logits. Values and gradients have about 6 digits in float32 (half
    precision is raised to it) for T from 0.01 to 1e6. A class of -inf in both counts as absent;
    in the student's only the value is Inf. Logits of NaN or +Inf give NaN. The teacher gets no
    gradient.
    """
    return _Divergence.apply(student, teacher.detach(), temperature, dim)  # pyright: ignore


class _Divergence(torch.autograd.Function):
    """The gradient is computed with the value: autograd would subtract what cancels."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float, dim: int) -> Tensor:
        size = PIECES["cpu" if student.device.type == "cpu" else "gpu"]
        rows = max(1, size // max(1, student[:1].numel()))
        pairs = zip(student.split(rows), teacher.split(rows), strict=True)
        parts = [_parts(*pair, temperature, dim) for pair in pairs]
        value, excess = map(torch.cat, zip(*parts, strict=True))
        ctx.save_for_backward(student, excess)
        ctx.temperature, ctx.dim = temperature, dim
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        student, excess = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for second derivatives: those of q
            q = (student / ctx.temperature).softmax(ctx.dim)
            excess = excess + (q - q.detach())
        return gradients[0].unsqueeze(ctx.dim) * excess / ctx.temperature, None, None, None


def _parts(student: Tensor, teacher: Tensor, t: float, dim: int) -> tuple[Tensor, Tensor]:
    """Return the divergence, and q - p in the shape of the logits."""
    peak = teacher.argmax(dim, keepdim=True)
    (own, own_rest), (guide, guide_rest) = (_minus_peak(x, peak, dim) for x in (student, teacher))
    gap = ((own - guide) + (own_rest - guide_rest)) / t  # u, but for a constant
    log_p = (guide / t).log_softmax(dim)
    log_q = ((student - student.amax(dim, keepdim=True)) / t).log_softmax(dim)
    p, q = log_p.exp(), log_q.exp()
    scaled = (own / t + log_p.gather(dim, peak)).exp()  # p exp(gap), also where p is 0
    total = torch.where(gap < 1, p * gap.expm1(), scaled - p).sum(dim, keepdim=True)
    u = torch.where(total.abs() < 0.5, gap - total.log1p(), log_q - log_p)
    near = u.abs() < NEAR
    growth = u.expm1()
    excess = torch.where(near, p * growth, q - p)
    far = torch.where(p == 0, q, excess - p * u)  # 0 times infinity is 0 here
    terms = torch.where(near, p * torch.where(u.abs() < SERIES, _series(u), growth - u), far)
    return terms.sum(dim).clamp(min=0), excess


def _minus_peak(logits: Tensor, peak: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return the logits less that of the class `peak`, and what rounding took (Knuth's TwoSum)."""
    top = logits.gather(dim, peak)
    less = logits - top
    back = less - logits
    rest = (logits - (less - back)) - (top + back)
    return less, rest.nan_to_num(nan=0.0)  # of infinite logits


def _series(u: Tensor) -> Tensor:
    """Return exp(u) - 1 - u for |u| < SERIES: u^2 / 2 (1 + u / 3 (1 + u / 4 (...)))."""
    series = torch.ones_like(u)
    for k in range(TERMS[u.dtype] + 1, 2, -1):
        series.mul_(u).div_(k).add_(1)
    return series.mul_(u).mul_(u).div_(2)
