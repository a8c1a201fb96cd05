"""Masked generative distillation (Yang et al. 2022). B: batch, C: channels, H, W: sizes."""

from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from kdx.losses.align import maps_of_one_size
from kdx.losses.pairs import Layers, PairLoss

__all__ = ["MGD"]


class MGD(PairLoss):
    """The squared distance of the teacher's map and one restored from the student's, masked.

    The student's map is mapped to the teacher's width by a 1 x 1 convolution if theirs differ; a
    random share `mask`, in [0, 1), is set to 0; 3 x 3 convolution, ReLU and 3 x 3 convolution
    restore it (equations 2 to 4). The value is the sum over a sample's elements, mean over the
    batch: weights are small, 7e-5 for classification and 2e-5 for dense tasks in the paper.

    `over`: what is masked, "channels" or "positions". The authors mask 0.15 of the channels for
    classification, 0.65 of the positions for detection, and 0.75 for segmentation. The masks are
    drawn from torch's generator. Maps of different sizes are average-pooled to the smaller one.
    ValueError for another `mask` or `over`.
    """

    def __init__(
        self,
        *,
        mask: float = 0.15,
        over: Literal["channels", "positions"] = "channels",
        **layers: Unpack[Layers],
    ) -> None:
        super().__init__(**layers)
        if not 0 <= mask < 1:
            raise ValueError(f"mask: {mask} is not in [0, 1)")
        if over not in ("channels", "positions"):
            raise ValueError(f"over: {over!r} is not one of 'channels', 'positions'")
        self.mask, self.over = mask, over

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from features of any layout; see `align.as_map`."""
        student, teacher = maps_of_one_size(student, teacher)
        widths = student.shape[1], teacher.shape[1]
        restorer = self.connector(index, widths, student, _Generator)
        mapped = restorer.align(student)
        batch, channels, height, width = mapped.shape
        shape = (batch, channels, 1, 1) if self.over == "channels" else (batch, 1, height, width)
        kept = torch.rand(shape, device=mapped.device) >= self.mask
        return (restorer.generate(mapped * kept) - teacher).square().flatten(1).sum(1).mean()


class _Generator(nn.Module):
    """`align` maps the student's channels to the teacher's, `generate` restores the map."""

    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.align = nn.Identity() if inside == out else nn.Conv2d(inside, out, 1)
        self.generate = nn.Sequential(
            nn.Conv2d(out, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1)
        )
