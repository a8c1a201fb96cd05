"""What losses read of teachers. B: batch, C: classes."""

from collections.abc import Mapping
from math import log

import torch
import torch.nn.functional as F
from torch import Tensor

from kdx.protocols import Outputs


class Watched:
    """Outputs that note whether anything is read of them, in `reads`; else as any other."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs, self.reads = outputs, False

    @property
    def logits(self) -> Tensor:
        """The logits."""
        self.reads = True
        return self._outputs.logits

    @property
    def features(self) -> Mapping[str, Tensor]:
        """The features."""
        self.reads = True
        return self._outputs.features


class TeacherMean:
    """What losses read of several teachers by name: `logits`, whose softmax is the mean of theirs.

    `at` temperature T: T log sum_k s_k softmax(z_k / T), for `shares` s that are brought to a sum
    of 1 (You et al., KDD 2017). Features are of one teacher, and so are the logits for losses
    without such a T: reading them raises ValueError, as do logits that differ in shape.
    """

    def __init__(
        self,
        outputs: Mapping[str, Outputs],
        shares: Mapping[str, float],
        *,
        at: float | None,
    ) -> None:
        self._outputs, self._shares, self._at = outputs, shares, at

    @property
    def logits(self) -> Tensor:
        """The logits [B, C, ...] of the mean."""
        if (t := self._at) is None:
            raise ValueError(f"teachers: this loss has no mean of several: {self._choose}")
        every = [self._outputs[name].logits for name in self._shares]
        shapes = {name: list(z.shape) for name, z in zip(self._shares, every, strict=True)}
        if len({*map(str, shapes.values())}) > 1:
            raise ValueError(f"teachers: their logits differ in shape, {shapes}: {self._choose}")
        total = sum(self._shares.values())
        parts = [
            F.log_softmax(z.to(torch.promote_types(z.dtype, torch.float32)) / t, 1)
            + log(share / total)
            for z, share in zip(every, self._shares.values(), strict=True)
        ]
        return t * torch.stack(parts).logsumexp(0)

    @property
    def features(self) -> Mapping[str, Tensor]:
        """Refused."""
        raise ValueError(f"teachers: a layer is of one of them: {self._choose}")

    @property
    def _choose(self) -> str:
        return f"name one, `teacher: {next(iter(self._shares))}` (of {', '.join(self._shares)})"
