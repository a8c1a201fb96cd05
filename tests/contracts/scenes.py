"""What every image source owes. H, W: sizes."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kdx.data import Augment
from kdx.protocols import ImageSource, InputSpec


def check_scenes(source: ImageSource, input: InputSpec, augment: Augment | None) -> None:
    """Assert what every image source owes, with an input and an augmentation that it takes.

    Views are uint8 or float32 [3, H, W], of the size that it says. They depend only on torch's CPU
    generator and, without `augment`, on nothing random. A subset has the samples that were asked
    for, under their names; a copy in another process has them, too. Its files exist. An input of
    two channels is refused.
    """
    assert isinstance(source, ImageSource)
    assert source.labels.dtype == torch.int64
    assert source.labels.shape == (len(source),)
    assert all(Path(file).is_file() for file in source.files)
    with pytest.raises(ValueError, match=r"\w"):
        source.check(InputSpec(2, input.size, (0.0,) * 2, (1.0,) * 2), augment)
    source.check(input, augment)
    chosen = torch.arange(len(source)).flip(0)
    turned, copied = source.subset(chosen), pickle.loads(pickle.dumps(source))
    assert torch.equal(turned.labels, source.labels[chosen])
    for index in range(len(source)):
        image, target = _scene(source, index, input, augment)
        assert image.dtype in (torch.uint8, torch.float32)
        assert image.shape == (3, *source.view_size(input, augment))
        other = len(source) - 1 - index
        assert turned.name(other) == copied.name(index) == source.name(index)
        same = [(source, index), (turned, other), (copied, index)]
        again = [_scene(each, i, input, augment) for each, i in same]
        again += [] if augment else [_scene(source, index, input, augment, seed=1)]
        assert all(torch.equal(a, image) and torch.equal(b, target) for a, b in again)


def _scene(source, index, input, augment, seed=0) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return source.view(index, input, augment)
