import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kdx.data.counter import uniform
from kdx.data.decode import ATTEMPTS, _random_box, center_crop, decode, resized_crop


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
    expected = image.crop((left, top, left + width, top + height))
    expected = v2.Resize([16, 16])(expected)
    view = resized_crop(image, 16, scale=(0.2, 0.6), numbers=numbers(3))
    assert view.tobytes() == expected.tobytes()


def test_random_boxes_have_the_stated_areas_and_shapes():
    boxes = [_random_box(500, 400, scale=(0.2, 0.6), numbers=numbers(i)) for i in range(2000)]
    left, top, width, height = np.array(boxes).T
    assert (left >= 0).all() and (top >= 0).all()  # noqa: PT018
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


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_kind_of_image_becomes_rgb(mode, tmp_path):
    path = tmp_path / "image.tif"
    photo(6, 5).convert(mode).save(path)
    pixels = decode(str(path), lambda image: image)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 5, 6))


def test_a_file_that_cannot_be_decoded(tmp_path):
    good, cut, text = (tmp_path / name for name in ("good.png", "cut.png", "text.png"))
    photo(64, 64).save(good)
    cut.write_bytes(good.read_bytes()[:5000])
    text.write_text("no image")
    for path in (cut, text, tmp_path / "absent.png"):
        with pytest.raises(ValueError, match=rf"{path.name}: the image cannot be decoded: "):
            decode(str(path), lambda image: image)
