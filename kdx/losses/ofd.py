"""Overhaul of feature distillation (Heo et al. 2019). B: batch, C: channels, H, W: sizes."""

from difflib import get_close_matches
from math import pi, sqrt
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdx.losses.align import maps_of_one_size
from kdx.losses.pairs import Layers, PairLoss

__all__ = ["OFD"]

RARE = 0.001  # a negative part below this share: the margin is -3 standard deviations


class OFD(PairLoss):
    """The partial squared distance from the teacher's maps before their ReLU.

    Teacher layers are BatchNorms. Their outputs t are clipped from below by a margin per channel,
    the mean of the negative part (see `margins`). The student's s are mapped by a
    learned 1 x 1 convolution and BatchNorm; its layers should be before their ReLU, too. The value
    is the sum of (s - t)^2 over a sample's elements, except where s <= t <= 0, mean over the
    batch. The last pair counts in full, those before it 1/2, 1/4, ...: give pairs
    from the input to the output. The authors also divide by 1000: weight 1e-3.

    Maps of different sizes are average-pooled to the smaller one first. ValueError for a teacher
    layer that is not a BatchNorm, with the name of one that is.
    """

    def __init__(
        self, *, teacher_network: nn.Module | None = None, **layers: Unpack[Layers]
    ) -> None:
        super().__init__(**layers)
        self.networks = (teacher_network,)  # in a tuple, it is no submodule

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features of any layout; see `align.as_map`."""
        student, teacher = maps_of_one_size(student, teacher)
        teacher = teacher.maximum(self._margin(teacher, index))
        widths = student.shape[1], teacher.shape[1]
        mapped = self.connector(index, widths, student, _mapped)(student)
        counts = (mapped > teacher) | (teacher > 0)
        squares = torch.where(counts, mapped - teacher, 0).square()
        return squares.flatten(1).sum(1).mean() / 2 ** (len(self.pairs) - 1 - index)

    def _margin(self, feature: Tensor, index: int) -> Tensor:
        """Return the margin [C, 1, 1] of a pair, made on the first call."""
        name, (network,) = f"margin_{index}", self.networks
        if name not in dict(self.named_buffers()):
            norm = _batch_norm(network, self.pairs[index][1], feature.shape[1])
            self.register_buffer(name, margins(norm).to(feature)[:, None, None])
        return self.get_buffer(name).to(feature)


@torch.no_grad()
def margins(norm: _BatchNorm) -> Tensor:
    """Return the mean of the negative part of N(bias, |weight|) for each channel, float64 [C].

    With z = bias / |weight| it is bias - |weight| phi(z) / Phi(-z), and -3 |weight| if Phi(-z), the
    share that is negative, is not above 0.001 (the authors' code).
    """
    one = torch.ones(norm.num_features, dtype=torch.float64)
    mean = one * 0 if norm.bias is None else norm.bias.double().cpu()
    std = one if norm.weight is None else norm.weight.double().cpu().abs()
    z = mean / std.clamp(min=torch.finfo(torch.float64).tiny)
    share = torch.special.ndtr(-z)
    density = (-z.square() / 2).exp() / sqrt(2 * pi)
    return torch.where(share > RARE, mean - std * density / share, -3 * std)


def _mapped(inside: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, out, 1, bias=False), nn.BatchNorm2d(out))


def _batch_norm(network: nn.Module | None, path: str, width: int) -> _BatchNorm:
    """Return the BatchNorm at a path; ValueError, with a similar name, if it is another module."""
    if network is None:
        raise ValueError("it needs the network of one teacher: pass `teacher_network`")
    modules = dict(network.named_modules())
    norms = {name: each for name, each in modules.items() if _is_plain(each)}
    for name in (path, path.partition(":")[0]):
        if isinstance(norm := norms.get(name), _BatchNorm):
            return norm
    if not norms:
        raise ValueError("the teacher has no BatchNorm, which this loss reads: choose another loss")
    inside = [name for name in norms if name.startswith(f"{path}.")]
    as_wide = [name for name, norm in norms.items() if norm.num_features == width]
    near = inside[-1:] or get_close_matches(path, norms, n=2) or as_wide[-1:] or [*norms][-1:]
    raise ValueError(
        f"the teacher's {path!r} is not a BatchNorm: name one, whose output is before a ReLU, such "
        f"as {' or '.join(map(repr, near))}"
    )


def _is_plain(module: nn.Module) -> bool:
    """Return whether a module is BatchNorm, without an activation inside as timm's may have."""
    return isinstance(module, _BatchNorm) and all(
        isinstance(each, nn.Identity) for each in module.children()
    )
