"""Knowledge review (Chen et al. 2021). B: batch, C: channels, M: the middle width, H, W: sizes."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.losses.align import as_map
from kdx.losses.pairs import layer_pairs, read_pairs
from kdx.losses.shared import full_precision
from kdx.protocols import Outputs

__all__ = ["ReviewKD"]

POOLED = (4, 2, 1)  # sizes at which maps are compared, too


class ReviewKD(nn.Module):
    """The teacher's stages, each learned from the student's same stage and all deeper ones.

    From the deepest pair to the first, the student's map and the fused map of the deeper stage,
    upsampled, are mixed by two learned attention maps (ABF, section 3.3), brought to the teacher's
    size, and compared with the teacher's map: the mean of squares at full size and average-pooled
    to 4, 2 and 1, where these are smaller, weighted 1, 1/2, 1/4, ... over the sum of the weights
    (HCL). The stages' values are summed.

    `layers` are pairs [student, teacher] from the input to the output; `width` is M, 512 for
    ResNets on ImageNet. ValueError for a width below 1. The authors' weights are 0.6 to 8, raised
    over the first 20 epochs. BatchNorm needs two values or more a channel.
    """

    def __init__(self, *, layers: Sequence[Sequence[str]], width: int = 256) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width: {width} is not at least 1")
        self.pairs, self.width, self.stages = layer_pairs(layers=layers), width, nn.ModuleList()

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read. ValueError for features of other shapes."""
        features = read_pairs("reviewkd", self.pairs, student, teacher)
        student_maps = [as_map(s, like=t) for s, t in features]
        teacher_maps = [as_map(t, like=s) for s, t in features]
        if not self.stages:
            deepest = len(student_maps) - 1
            for index, (s, t) in enumerate(zip(student_maps, teacher_maps, strict=True)):
                stage = _Fusion(s.shape[1], self.width, t.shape[1], deeper=index < deepest)
                self.stages.append(stage.to(s.device, torch.promote_types(s.dtype, torch.float32)))
        return self._distance(*student_maps, *teacher_maps)

    @full_precision
    def _distance(self, *maps: Tensor) -> Tensor:
        count, values = len(self.stages), []
        fused: Tensor | None = None
        for index in reversed(range(count)):
            teacher = maps[count + index]
            restored, fused = self.stages[index](maps[index], fused, teacher.shape[2:])
            values.append(_hierarchical(restored, teacher))
        return torch.stack(values).sum()


class _Fusion(nn.Module):
    """Attention-based fusion: a stage's map [B, C, H, W] and the deeper fused map [B, M, h, w]."""

    def __init__(self, inside: int, width: int, out: int, *, deeper: bool) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.Conv2d(inside, width, 1, bias=False), nn.BatchNorm2d(width))
        self.attend = nn.Sequential(nn.Conv2d(2 * width, 2, 1), nn.Sigmoid()) if deeper else None
        self.leave = nn.Sequential(
            nn.Conv2d(width, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
        )

    def forward(
        self, student: Tensor, deeper: Tensor | None, size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return the restored map of the teacher's width and `size`, and the fused map."""
        fused = self.enter(student)
        if self.attend is not None and deeper is not None:
            deeper = F.interpolate(deeper, student.shape[2:])
            kept, added = self.attend(torch.cat([fused, deeper], 1)).split(1, 1)
            fused = fused * kept + deeper * added
        if fused.shape[2:] != size:
            fused = F.interpolate(fused, list(size))
        return self.leave(fused), fused


def _hierarchical(student: Tensor, teacher: Tensor) -> Tensor:
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for size in POOLED:
        if size < student.shape[2]:
            weight /= 2
            s, t = (F.adaptive_avg_pool2d(each, size) for each in (student, teacher))
            total, weights = total + weight * F.mse_loss(s, t), weights + weight
    return total / weights
