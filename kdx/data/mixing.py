"""mixup and CutMix: a view that is mixed with its partner's. B: batch, C: classes, H, W: pixels.

A sample's partner is another one of the training split, seen by its own view of the same epoch.
Partner, share and box are pure functions of (seed, epoch, index), and so is the mixed view.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from kdx.data.counter import Draw, integers, uniform
from kdx.protocols import Key


class Mix(NamedTuple):
    """The `share` of the sample itself, in [0, 1]; `box`: the partner's (top, left, bottom, right).

    Without a box all pixels are mixed; with one the share is that of the pixels outside of it.
    """

    share: float
    box: tuple[int, int, int, int] | None


@dataclass(frozen=True)
class Mixing:
    """The parameters of Beta, 0 for none, and the number of classes C, of samples with one each.

    `unknown` is the target that stays itself when it is mixed, if there is one. With `labels` [n]
    of all samples, partners are of each class as often, for samples that are drawn so.

    `mixup`: share * image + (1 - share) * partner (Zhang et al. 2018). `cutmix`: a box of the
    partner's pixels is pasted at its place (Yun et al. 2019). Shares are from Beta(a, a), a box has
    1 - share of the area and the image's proportions, and a center drawn evenly: what lies outside
    the image is cut off, and the share is of the rest. With both, one or the other is drawn for
    each sample, as likely.
    """

    mixup: float
    cutmix: float
    classes: int
    unknown: float | None = None
    labels: Tensor | None = field(default=None, compare=False)

    @cached_property
    def _classes(self) -> tuple[NDArray, NDArray]:
        """The samples ordered by their class, and the number of each class that occurs."""
        assert self.labels is not None
        _, counts = self.labels.unique(return_counts=True)
        return self.labels.argsort(stable=True).numpy(), counts.numpy()

    def partners(self, keys: Sequence[Key], samples: int, *, seed: int) -> list[Key]:
        """Return the keys of the partners of `keys`, out of two `samples` or more.

        Never the sample itself, unless classes are drawn first.
        """
        epochs, indices = np.array(keys, np.int64).T
        if self.labels is None:
            steps = 1 + integers(seed, epochs, indices, Draw.PARTNER, samples - 1)
            partners = (indices + steps) % samples
        else:
            by_class, counts = self._classes
            place = uniform(seed, epochs, indices, Draw.PARTNER) * len(counts)
            chosen = place.astype(np.int64)
            within = ((place - chosen) * counts[chosen]).astype(np.int64)
            partners = by_class[(counts.cumsum() - counts)[chosen] + within]
        return list(zip(epochs.tolist(), partners.tolist(), strict=True))

    def draw(self, keys: Sequence[Key], size: tuple[int, int], *, seed: int) -> list[Mix]:
        """Return how each view of `size` (H, W) is mixed."""
        epochs, indices = np.array(keys, np.int64).T
        words = integers(seed, epochs, indices, Draw.MIX, 2**32)
        random, mixes = np.random.RandomState(0), []  # whose numbers are the same in all versions
        for word in words.tolist():
            random.seed(word)
            mixes.append(self._draw(random, size))
        return mixes

    def mix(
        self, images: Tensor, targets: Tensor, keys: Sequence[Key], *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Mix views, normalised [2 B, C, H, W], the second half the partners', of labels [2 B].

        Return images [B, C, H, W], and the probabilities of the classes [B, C], float32. Or of
        targets [2 B, K], float, mixed as they are. ValueError for others.
        """
        is_class = targets.ndim == 1 and targets.dtype == torch.int64
        if not is_class and not (targets.ndim == 2 and targets.is_floating_point()):
            found = f"{str(targets.dtype).removeprefix('torch.')} {list(targets.shape)}"
            raise ValueError(f"data.mixup, data.cutmix: targets are {found}, not labels [B]")
        height, width = images.shape[2:]
        mixes = self.draw(keys, (height, width), seed=seed)
        own, other = images.chunk(2)
        shares = torch.tensor([mix.share for mix in mixes], dtype=torch.float64)[:, None]
        pixels = torch.tensor([1.0 if mix.box else mix.share for mix in mixes]).view(-1, 1, 1, 1)
        # Not by lerp: whether it rounds once or twice depends on a number's place in the memory.
        mixed = own * pixels + other * (1 - pixels)
        for image, partner, mix in zip(mixed, other, mixes, strict=True):
            if mix.box:
                top, left, bottom, right = mix.box
                image[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        goals = one_hot(targets, self.classes) if is_class else targets
        first, second = goals.double().chunk(2)
        soft = shares * first + (1 - shares) * second
        if self.unknown is not None:
            soft = soft.where((first != self.unknown) & (second != self.unknown), self.unknown)
        return mixed, soft.float()

    def _draw(self, random: np.random.RandomState, size: tuple[int, int]) -> Mix:
        boxed = bool(self.cutmix) and not (self.mixup and random.random_sample() < 0.5)
        parameter = self.cutmix if boxed else self.mixup
        share = float(random.beta(parameter, parameter))
        if not boxed:
            return Mix(share, None)
        box = _box(size, share, random.random_sample(2))
        area = (box[2] - box[0]) * (box[3] - box[1])
        return Mix(1 - area / (size[0] * size[1]), box)


def _box(size: tuple[int, int], share: float, center: NDArray) -> tuple[int, int, int, int]:
    """Return a box (top, left, bottom, right) of 1 - share of the area, within the image."""
    starts, ends = [], []
    for side, place in zip(size, center.tolist(), strict=True):
        length, middle = int(side * (1 - share) ** 0.5), int(place * side)
        starts.append(max(0, middle - length // 2))
        ends.append(min(side, middle - length // 2 + length))
    return starts[0], starts[1], ends[0], ends[1]
