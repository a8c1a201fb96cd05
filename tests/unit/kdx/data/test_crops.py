import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from kdx.data.counter import uniform
from kdx.data.crops import ATTEMPTS, _random_box, center_crop, resized_crop


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def numbers(index: int) -> np.ndarray:
    return uniform(0, 0, index, np.arange(4 * ATTEMPTS)).reshape(ATTEMPTS, 4)


@pytest.mark.parametrize("sides", [(90, 61), (61, 90), (33, 33), (20, 19)])
def test_center_crop_is_torchvisions(sides):
    image = photo(*sides)
    expected = v2.Compose([v2.Resize(37), v2.CenterCrop(32)])(image)
    assert center_crop(image, 32).tobytes() == expected.tobytes()


def test_resized_crop_is_torchvisions():
    image = photo(50, 40)
    left, top, width, height = _random_box(50, 40, scale=(0.2, 0.6), numbers=numbers(3))
    view = resized_crop(pil_to_tensor(image), 16, scale=(0.2, 0.6), numbers=numbers(3))
    part = pil_to_tensor(image)[:, top : top + height, left : left + width]
    assert torch.equal(view, v2.Resize([16, 16])(part))
    part = v2.Resize([16, 16])(image.crop((left, top, left + width, top + height)))
    away = (view.int() - pil_to_tensor(part).int()).abs()
    assert away.max() <= 1
    assert (away > 0).float().mean() < 0.02


def test_random_boxes_have_the_stated_areas_and_shapes():
    boxes = [_random_box(500, 400, scale=(0.2, 0.6), numbers=numbers(i)) for i in range(2000)]
    left, top, width, height = np.array(boxes).T
    assert (left >= 0).all()
    assert (top >= 0).all()
    assert (left + width <= 500).all()
    assert (top + height <= 400).all()
    area, ratio = width * height / 200_000, np.log(width / height) / np.log(4 / 3)
    assert 0.2 - 0.01 < area.min() < 0.21
    assert 0.59 < area.max() < 0.6 + 0.01
    assert abs(area.mean() - 0.4) < 0.01
    assert np.abs(ratio).max() < 1.02
    assert abs(ratio.mean()) < 0.05


@pytest.mark.parametrize(
    ("sides", "box"), [((100, 10), (43, 0, 13, 10)), ((10, 100), (0, 43, 10, 13))]
)
def test_where_no_box_fits_the_middle_is_taken(sides, box):
    assert _random_box(*sides, scale=(1.0, 1.0), numbers=numbers(0)) == box


@pytest.mark.parametrize("sides", [(1, 3000), (3000, 1), (3, 200), (700, 13), (5, 47)])
def test_long_images_are_enlarged_where_they_are_seen(sides):
    image = photo(*sides)
    for size in (8, 32):
        whole = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])(image)
        part = center_crop(image, size)
        assert part.size == (size, size)
        assert part.tobytes() == whole.tobytes()


def test_enlarged_parts_differ_by_rounding_at_most():
    away = []
    for sides in ((9000, 30), (25, 1031), (17, 291), (23, 230)):
        image = photo(*sides)
        whole = v2.Compose([v2.Resize(37), v2.CenterCrop(32)])(image)
        away.append(np.abs(np.asarray(center_crop(image, 32), int) - np.asarray(whole, int)))
    assert np.max(away) <= 2
    assert np.mean(np.array(away) > 0) < 0.02


def test_a_long_image_takes_little_memory(monkeypatch):
    made, resize = [], Image.Image.resize

    def counting(image, size, *rest, **more):
        made.append(size[0] * size[1])
        return resize(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", counting)
    center_crop(photo(1, 3000), 224)
    assert made == [256 * (224 + 2 * 257)]  # of 256 x 768,000: what one pixel's filter reaches
