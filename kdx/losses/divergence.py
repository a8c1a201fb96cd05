"""The KL divergence of softened logits, with all digits at any temperature. C: classes.

At a high temperature both softmaxes are almost uniform, and the usual sum of p (log p - log q) is
a difference of almost equal numbers: float32 loses all of its digits, and its sign. Here, with
u = log(q / p), every term of

    KL(p || q) = sum over the classes of p (exp(u) - 1 - u)

is at least 0, and u is computed in float64, where the device has it.
"""

from typing import Any

import torch
from torch import Tensor

from kdx.losses.shared import full_precision

__all__ = ["kl_divergence"]

CLOSE = 0.5  # below this difference of logits / T, u needs no second softmax
NEAR = 1.0  # below this |u| q - p cancels, and p (exp(u) - 1) does not
PIECE, ON_GPU = 2**15, 2**22  # logits at once: what the caches hold; 32 MiB in float64


@full_precision
def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float, dim: int = 1) -> Tensor:
    """Return KL(softmax(teacher / T) || softmax(student / T)) of logits, summed over `dim` of C.

    Logits are [B, C, ...] or of any shape; the result lacks `dim`, is not multiplied by T^2, at
    least 0, and 0 for equal logits. Values and gradients have about 6 digits (half precision is
    raised to float32) for T from 0.01 to 1e6; on MPS, which has no float64, fewer at a high T. A
    class of -inf in both counts as absent; in the student's only the value is Inf. Logits of NaN or
    +Inf give NaN. The teacher gets no gradient.
    """
    student, teacher = student.movedim(dim, -1), teacher.detach().movedim(dim, -1)
    return _Divergence.apply(student, teacher, temperature)  # pyright: ignore


class _Divergence(torch.autograd.Function):
    """The gradient is computed with the value: autograd would subtract what cancels."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        shape, classes = student.shape, student.shape[-1]
        rows = max(1, (PIECE if student.device.type == "cpu" else ON_GPU) // classes)
        pieces = [each.reshape(-1, classes).split(rows) for each in (student, teacher)]
        parts = [_parts(s, t, temperature) for s, t in zip(*pieces, strict=True)]
        value, excess = (torch.cat(each).to(student.dtype) for each in zip(*parts, strict=True))
        ctx.save_for_backward(student, excess.view(shape))
        ctx.temperature = temperature
        return value.view(shape[:-1])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        student, excess = ctx.saved_tensors
        if torch.is_grad_enabled():  # asked for second derivatives: those of q
            q = (student / ctx.temperature).softmax(-1)
            excess = excess + (q - q.detach())
        return gradients[0].unsqueeze(-1) * excess / ctx.temperature, None, None


def _parts(student: Tensor, teacher: Tensor, t: float) -> tuple[Tensor, Tensor]:
    """Return the divergences [N] of rows [N, C], and q - p [N, C]."""
    wide = torch.float32 if student.device.type == "mps" else torch.float64
    student, teacher = student.to(wide) / t, teacher.to(wide) / t
    log_p, apart = teacher.log_softmax(-1), student - teacher
    p = log_p.exp()
    if student.device.type == "cpu" and apart.abs().amax() < CLOSE:  # elsewhere it would wait
        u = apart - (p * apart.expm1()).sum(-1, keepdim=True).log1p()
        excess = p * u.expm1()
        return (excess - p * u).sum(-1).clamp(min=0), excess
    log_q = student.log_softmax(-1)
    u, q = log_q - log_p, log_q.exp()
    near = u.abs() < NEAR
    excess = torch.where(near, p * u.expm1(), q - p)
    # Of a class that the teacher excludes p u is 0, even if u is Inf or NaN.
    terms = torch.where(near | (p != 0), excess - p * u, q)
    return terms.sum(-1).clamp(min=0), excess
