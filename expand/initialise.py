"""Initial values of the factors: torch's own, scaled to the layer, or preserving its function."""

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from expand.algebra import regroup
from expand.folding import fold
from expand.preserve import channelwise, preserve

__all__ = ["INITS", "Init", "check_values", "initialise", "scale"]

Init = Literal["default", "scaled", "preserve"]
INITS: tuple[Init, ...] = ("default", "scaled", "preserve")


def initialise(
    factors: Sequence[nn.Conv2d | nn.Linear],
    weight: Tensor,
    bias: Tensor | None,
    *,
    groups: int,
    init: Init,
) -> None:
    """Set the factors, which have torch's default values, from the layer's weight and bias.

    default: leave them, as in the paper. The product of such factors is smaller than the layer's
    own default: its variance by 3 for each factor but one, so that without BatchNorm signals
    fade from layer to layer.
    scaled: scale all factors alike, so that the product has the root mean square of `weight`.
    preserve: choose factors whose product is `weight`. FC and CL: for any rate of 1 or more; CK:
    where the inner widths suffice (`expand.preserve`). ValueError elsewhere.
    Both raise ValueError for weights on the meta device.

    With scaled and preserve the inner biases are zero and the last one is the layer's.
    """
    if init == "default":
        return
    check_values(weight, init)
    with torch.no_grad():
        setter = _scale if init == "scaled" else _preserve
        setter(factors, weight, groups)
        if bias is not None:
            for own in [factor.bias for factor in factors if factor.bias is not None]:
                own.zero_()
            cast("Tensor", factors[-1].bias).copy_(bias)


def check_values(weight: Tensor, init: Init) -> None:
    """Raise ValueError for a weight without values, which `init` starts from."""
    if weight.is_meta and init != "default":
        raise ValueError(
            f"init={init!r} needs the layer's values, and it is on the meta device: use "
            "init='default', or load the weights first (network.to_empty, load_state_dict)"
        )


def _scale(factors: Sequence[nn.Conv2d | nn.Linear], weight: Tensor, groups: int) -> None:
    weights = [regroup(f.weight.double(), _groups(f), groups) for f in factors]
    product, _ = fold(weights, [None] * len(weights), groups=groups)
    scale(weight, product, [factor.weight for factor in factors], degree=len(factors))


def _preserve(factors: Sequence[nn.Conv2d | nn.Linear], weight: Tensor, groups: int) -> None:
    starts = [factor.weight.detach().cpu().double() for factor in factors]
    target = weight.detach().cpu().double()
    if any(_groups(factor) != groups for factor in factors):
        values = channelwise(starts, target)
    else:
        values = preserve(starts, target, groups)
    if values is None:
        widths = ", ".join(str(start.shape[0]) for start in starts[:-1])
        raise ValueError(
            f"init='preserve' cannot be exact with inner widths {widths}: raise the rate (4 "
            "suffices for kernels of 5 and 7; of the first layer with stem='expand'), use "
            "conv='cl', or another init"
        )
    for factor, value in zip(factors, values, strict=True):
        factor.weight.copy_(value)


def _groups(factor: nn.Module) -> int:
    return factor.groups if isinstance(factor, nn.Conv1d | nn.Conv2d | nn.Conv3d) else 1


def scale(weight: Tensor, product: Tensor, factors: Sequence[Tensor], *, degree: int = 1) -> None:
    """Scale factors alike, in place, so that their product, of a degree, has the size of `weight`.

    That is its root mean square.
    """
    target, size = (each.double().square().mean().sqrt() for each in (weight, product))
    if target > 0:  # a layer of zeros gives no scale
        for factor in factors:
            factor.mul_(((target / size) ** (1 / degree)).item())
