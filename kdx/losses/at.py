"""Attention transfer (Zagoruyko & Komodakis 2017). B: batch, C: channels, H, W: sizes."""

from typing import Unpack

from torch import Tensor

from kdx.losses.align import with_positions
from kdx.losses.pairs import Layers, PairLoss
from kdx.losses.relations import scaled, unit_rows

__all__ = ["AT"]


class AT(PairLoss):
    """The squared distance of the attention maps, mean over samples and positions.

    The attention map of a feature map [B, C, H, W] is Q = sum over the channels of |F|^p, divided
    by its L2 norm: the activation-based attention of section 3.1, with the mean of squares of the
    authors' code (equation 2 has the norm of the difference). Maps of different sizes are
    average-pooled to the smaller one first. Channels may differ. `p` is at least 1; ValueError
    otherwise. The authors compare all stages, with weight 1000.
    """

    def __init__(self, *, p: float = 2.0, **layers: Unpack[Layers]) -> None:
        super().__init__(**layers)
        if not 1 <= p <= 100:
            raise ValueError(f"p: {p} is not in [1, 100]")
        self.p = p

    def distance(self, student: Tensor, teacher: Tensor, index: int) -> Tensor:
        """Return the scalar from maps or tokens; ValueError for one position, as of vectors."""
        student, teacher = map(self._attention, with_positions(student, teacher))
        return (student - teacher).square().mean()

    def _attention(self, feature: Tensor) -> Tensor:
        return unit_rows(scaled(feature, (1, 2, 3)).abs().pow(self.p).mean(1).flatten(1))
