import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from kdx.data.augment import Augment, flip, normalise, pad_and_crop
from kdx.protocols import InputSpec


def random_images(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_pad_and_crop_is_torchvisions(channels):
    images = random_images(81, channels, 8, 10)
    top, left = (corner.flatten() for corner in np.mgrid[:9, :9])
    windows = pad_and_crop(images, 4, top=top, left=left)
    for image, window, y, x in zip(images, windows, top, left, strict=True):
        assert torch.equal(window, reference.crop(reference.pad(image, [4]), y, x, 8, 10))


def test_flip_is_torchvisions():
    images = random_images(5, 3, 4, 6)
    expected = torch.stack([images[0], *reference.hflip(images[1:3]), *images[3:]])
    assert torch.equal(flip(images, np.array([0, 1, 1, 0, 0], bool)), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_large_images_are_flipped_alike(layout):
    images = random_images(4, 3, 80, 90).contiguous(memory_format=layout)
    expected = torch.stack([images[0].flip(-1), images[1], *images[2:].flip(-1)])
    assert torch.equal(flip(images, np.array([1, 0, 1, 1], bool)), expected)


@pytest.mark.parametrize("shape", [(3, 1, 6, 5), (3, 3, 6, 5), (3, 3, 6, 1), (3, 3, 250, 260)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_normalise_in_both_layouts_is_the_formula_to_the_bit(shape, layout):
    images = random_images(*shape).contiguous(memory_format=layout)
    spec = InputSpec(3, 5, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    mean, std = (torch.tensor(each).view(3, 1, 1) * 255 for each in (spec.mean, spec.std))
    expected = (images.float().expand(-1, 3, -1, -1) - mean) * (1 / std)
    for channels_last, wanted in ((False, torch.contiguous_format), (True, torch.channels_last)):
        views = normalise(images, spec, channels_last=channels_last)
        assert torch.equal(views, expected)
        assert views.is_contiguous(memory_format=wanted)


def test_normalise_is_torchvisions():
    images = random_images(4, 3, 5, 5)
    spec = InputSpec(3, 5, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    expected = reference.normalize(images / 255, list(spec.mean), list(spec.std))
    torch.testing.assert_close(normalise(images, spec), expected, rtol=1e-5, atol=1e-6)


def test_grey_is_repeated():
    images = random_images(2, 1, 3, 3)
    spec = InputSpec(3, 3, (0.5,) * 3, (0.25,) * 3)
    views = normalise(images, spec)
    assert views.shape == (2, 3, 3, 3)
    assert views.is_contiguous()
    assert torch.equal(views[:, 2:], normalise(images, InputSpec(1, 3, (0.5,), (0.25,))))
    assert torch.equal(views[:, 0], views[:, 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"crop": -1}, r"crop\n.*greater than or equal to 0"),
        ({"resized_crop": (0.0, 1.0)}, r"resized_crop\n.*\[0.0, 1.0\] is not \[low, high\] with 0"),
        ({"resized_crop": (0.5, 0.2)}, r"resized_crop\n.*\[0.5, 0.2\] is not"),
        ({"resized_crop": (0.5, 1.5)}, r"resized_crop\n.*\[0.5, 1.5\] is not"),
        ({"crop": 4, "resized_crop": (0.08, 1)}, "use crop or resized_crop, not both"),
        ({"scale": (0.0, 1.0)}, r"scale\n.*\[0.0, 1.0\] is not \[low, high\] with 0 < low"),
        ({"scale": (2.0, 1.0)}, r"scale\n.*\[2.0, 1.0\] is not"),
        ({"color": 1.5}, r"color\n.*less than or equal to 1"),
        ({"window": (8, 0)}, r"window.*\n.*greater than or equal to 1"),
        ({"sizes": (96, 0)}, r"sizes\.1\n.*greater than or equal to 1"),
        ({"zoom": 2}, r"zoom\n.*Extra inputs are not permitted"),
    ],
)
def test_changes_out_of_range(change, message):
    with pytest.raises(ValueError, match=rf"(?s)for Augment\n.*{message}"):
        Augment(**change)


def test_it_names_the_changes_that_are_asked_for():
    assert Augment().changes == []
    assert Augment(flip=True, scale=(0.5, 2.0), window=64).changes == ["flip", "scale", "window"]
