"""Clip gradients by value, or adaptively."""

from collections.abc import Sequence

from torch import Tensor, nn

from kdx.recipe.optimizing import Clip


def clip_gradients(parameters: Sequence[nn.Parameter], clip: Clip) -> Tensor:
    """Clip the gradients in place; return their norm before that, a scalar.

    By value: each number to [-at, at], torch's. Adaptive: the gradient of each unit (a row of a
    weight) to `at` times the norm of its weights, at least 1e-3, timm's (Brock et al. 2021,
    arXiv 2102.06171, equation 3). What is not finite does not become so: Inf becomes NaN.
    """
    trained = [p for p in parameters if p.grad is not None]
    gradients = [p.grad for p in trained if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    if clip.by == "value":
        for gradient in gradients:
            gradient.add_(gradient - gradient)  # 0, or NaN, which clipping keeps
        nn.utils.clip_grad_value_(trained, clip.at)
    else:
        from timm.utils.agc import adaptive_clip_grad

        adaptive_clip_grad(trained, clip.at)
    return norm
