import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.transforms.v2 import functional as reference

from kdx.data import MemoryImages, digits

PIXELS, LABELS = load_digits(return_X_y=True)


def test_the_split_is_fixed_and_stratified():
    data = digits(size=8)
    assert (len(data.train), len(data.test)) == (1437, 360)
    names = [part.name(i) for part in (data.train, data.test) for i in range(len(part))]
    assert len(set(names)) == 1797
    assert data.test.name(0) == "digits[1]"
    whole = torch.as_tensor(LABELS).bincount()
    assert ((data.test.labels.bincount() - whole * 360 / 1797).abs() < 1).all()
    assert list(data.classes) == list("0123456789")


def test_the_pixels_are_scikit_learns():
    train = digits(size=8).train
    assert isinstance(train, MemoryImages)
    assert train.numbers is not None
    expected = PIXELS[train.numbers].reshape(-1, 8, 8) * 255 / 16
    assert np.abs(train.images[:, 0].numpy() - expected).max() <= 0.5
    assert (train.images.min(), train.images.max()) == (0, 255)


def test_the_size_is_torchvisions():
    small, large = digits(size=8).test, digits(size=32).test
    assert isinstance(small, MemoryImages)
    assert isinstance(large, MemoryImages)
    assert torch.equal(large.images, reference.resize(small.images, [32, 32], antialias=True))


def test_the_normalisation_is_the_digits():
    spec = digits(size=8).input
    pixels = PIXELS / 16
    assert spec.mean[0] == pytest.approx(pixels.mean(), abs=1e-4)
    assert spec.std[0] == pytest.approx(pixels.std(), abs=1e-4)


def test_three_channels_are_seen_but_not_stored():
    data = digits(channels=3)
    assert isinstance(data.train, MemoryImages)
    assert data.train.images.shape == (1437, 1, 32, 32)
    assert (data.input.channels, len(data.input.mean), len(data.input.std)) == (3, 3, 3)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="digits: channels: 2 must be 1"):
        digits(channels=2)
    with pytest.raises(ValueError, match="digits: size: 0 must be 1 pixel or more"):
        digits(size=0)
