import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS, pil_loader
from torchvision.transforms import v2
from torchvision.transforms.functional import pil_to_tensor

from kdx.data.counter import uniform
from kdx.data.crops import ATTEMPTS, _random_box, center_crop, resized_crop
from kdx.data.decode import (
    MASKS,
    _jpeg_decoder,
    decode,
    decode_annotated,
    decode_mask,
    read_header,
    suffixes,
)


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


def saved(tmp_path, name: str, image: Image.Image, **options) -> str:
    path = str(tmp_path / name)
    image.save(path, **options)
    return path


def rotated(image: Image.Image) -> Image.Exif:
    exif = image.getexif()
    exif[0x0112] = 6  # orientation: to be turned by a quarter
    return exif


KINDS = {
    "grey": ("a.png", lambda image: image.convert("L"), {}),
    "two colours": ("a.png", lambda image: image.convert("1"), {}),
    "palette": ("a.gif", lambda image: image.quantize(16), {}),
    "alpha": ("a.png", lambda image: image.convert("RGBA"), {}),
    "half transparent": ("a.png", lambda image: Image.merge("RGBA", [*image.split() * 2][:4]), {}),
    "grey with alpha": ("a.png", lambda image: image.convert("LA"), {}),
    "JPEG": ("a.jpg", lambda image: image, {}),
    "grey JPEG": ("a.jpg", lambda image: image.convert("L"), {"progressive": True}),
    "CMYK": ("a.jpg", lambda image: image.convert("CMYK"), {}),
    "YCbCr": ("a.tif", lambda image: image.convert("YCbCr"), {}),
    "animation": ("a.gif", lambda image: image, {"save_all": True, "append_images": [photo(6, 5)]}),
    "orientation": ("a.jpg", lambda image: image, {"exif": rotated(photo(6, 5))}),
}


@pytest.mark.parametrize("decoder", ["torchvision's", "Pillow's"])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_torchvisions_image_folder(kind, decoder, tmp_path, monkeypatch):
    if decoder == "Pillow's":
        monkeypatch.setattr("kdx.data.decode._jpeg_decoder", lambda: None)
    name, convert, options = KINDS[kind]
    path = saved(tmp_path, name, convert(photo(6, 5)), **options)
    pixels = decode(path)
    assert (pixels.dtype, pixels.shape) == (torch.uint8, (3, 5, 6))
    assert torch.equal(pixels, pil_to_tensor(pil_loader(path)))


def test_of_16_bits_in_colour_the_upper_8_are_kept(tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">2I5B", 6, 5, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    with (tmp_path / "a.png").open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, content in [*chunks, (b"IEND", b"")]:
            crc = zlib.crc32(name + content)
            file.write(struct.pack(">I", len(content)) + name + content + struct.pack(">I", crc))
    pixels = decode(str(tmp_path / "a.png"))
    assert np.array_equal(pixels.permute(1, 2, 0), values >> 8)


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", "I;16"), ("a.tif", "I;16"), ("a.tif", "I;16B"), ("a.tif", "I"), ("a.tif", "F")],
)
def test_more_than_8_bits_in_one_channel_are_refused(name, mode, tmp_path):
    path = saved(tmp_path, name, Image.new(mode, (6, 5), 300))
    reason = rf"mode {mode} has more than 8 bits, which would be clipped: scale it to 8 bits"
    with pytest.raises(ValueError, match=rf"{name}: the image cannot be decoded: {reason}"):
        decode(path)
    with pytest.raises(ValueError, match=rf"{name}: {reason}$"):
        read_header(path)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_are_read_as_they_are(mode, tmp_path):
    ids = np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette([255 - value // 3 for value in range(768)])
    path = saved(tmp_path, "a.png", image)
    assert torch.equal(decode_mask(path), torch.from_numpy(ids))
    assert read_header(path, modes=MASKS).size == read_header(path).size == (5, 6)


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1", "LA"])
def test_what_is_no_mask(mode, tmp_path):
    path = saved(tmp_path, "a.png", Image.new(mode, (6, 5)))
    reason = f"mode {mode} is not of one channel of 8 bits, an id for each pixel"
    with pytest.raises(ValueError, match=rf"a\.png: the mask cannot be decoded: {reason}$"):
        decode_mask(path)
    with pytest.raises(ValueError, match=rf"a\.png: {reason}$"):
        read_header(path, modes=MASKS)


def test_a_size_of_what_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.png: not an image$"):
        read_header(str(tmp_path / "a.png"))
    with pytest.raises(ValueError, match=r"a\.png: mode I;16 has more than 8 bits"):
        read_header(saved(tmp_path, "a.png", Image.new("I;16", (6, 5))))


def test_a_file_that_cannot_be_decoded(tmp_path):
    good, cut, text, empty = (tmp_path / f"{name}.png" for name in ("good", "cut", "text", "empty"))
    photo(64, 64).save(good)
    cut.write_bytes(good.read_bytes()[:5000])
    text.write_text("no image")
    empty.touch()
    (tmp_path / "folder.png").mkdir()
    for name, reason in (
        ("cut", "image file is truncated"),
        ("text", "not an image"),
        ("empty", "the file is empty"),
        ("absent", "No such file or directory"),
        ("folder", "not a regular file"),
    ):
        path = str(tmp_path / f"{name}.png")
        with pytest.raises(
            ValueError, match=rf"{name}\.png: the image cannot be decoded: {reason}"
        ):
            decode(path)
    assert read_header(str(cut)) == ((64, 64), 1)  # the header is whole


def test_whatever_a_damaged_file_raises_names_it(tmp_path):
    def fail(image):
        raise IndexError("deep inside")

    path = saved(tmp_path, "a.png", photo(6, 5))
    with pytest.raises(ValueError, match=r"a\.png: the image cannot be decoded: deep inside"):
        decode(path, fail)


def test_want_of_memory_is_no_fault_of_the_file(tmp_path):
    def fail(image):
        raise MemoryError

    with pytest.raises(MemoryError):
        decode(saved(tmp_path, "a.png", photo(6, 5)), fail)


def oriented(path, image: Image.Image, orientation: int) -> str:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_annotations_assume(tmp_path, kind, orientation):
    path = oriented(tmp_path / f"a.{kind}", photo(12, 8), orientation)
    with Image.open(path) as image:
        upright = pil_to_tensor(ImageOps.exif_transpose(image).convert("RGB"))
    if orientation == 1:
        assert torch.equal(decode_annotated(path, None), upright)
    elif orientation < 5:
        with pytest.raises(ValueError, match=rf"a\.{kind}: .*EXIF orientation {orientation}: whe"):
            decode_annotated(path, (8, 12))
    else:
        assert torch.equal(decode_annotated(path, (12, 8)), upright)
        assert decode_annotated(path, (8, 12)).shape == (3, 8, 12)
        stored = torch.rot90(upright, {6: 1, 8: -1}.get(orientation, 0), (1, 2))
        if orientation in (6, 8):
            assert torch.equal(decode_annotated(path, (8, 12)), stored)
        with pytest.raises(ValueError, match="EXIF orientation"):
            decode_annotated(path, None)
    square = oriented(tmp_path / f"b.{kind}", photo(9, 9), orientation)
    if orientation > 1:
        with pytest.raises(ValueError, match="EXIF orientation"):
            decode_annotated(square, (9, 9))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_orientation(tmp_path):
    photo(6, 5).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert read_header(str(tmp_path / "a.jpg")) == ((5, 6), 1)


def test_a_mask_with_an_orientation(tmp_path):
    path = oriented(tmp_path / "a.png", Image.new("L", (6, 5)), 6)
    with pytest.raises(ValueError, match=r"a\.png: the mask cannot be decoded: EXIF orientation 6"):
        decode_mask(path)


@pytest.mark.parametrize("sides", [(1, 3000), (3000, 1), (3, 200), (700, 13), (5, 47)])
def test_long_images_are_enlarged_where_they_are_seen(sides):
    image = photo(*sides)
    for size in (8, 32):
        whole = v2.Compose([v2.Resize(round(size * 256 / 224)), v2.CenterCrop(size)])(image)
        part = center_crop(image, size)
        assert part.size == (size, size)
        assert part.tobytes() == whole.tobytes()


def test_a_long_image_takes_little_memory(monkeypatch):
    made, resize = [], Image.Image.resize

    def counting(image, size, *rest, **more):
        made.append(size[0] * size[1])
        return resize(image, size, *rest, **more)

    monkeypatch.setattr(Image.Image, "resize", counting)
    center_crop(photo(1, 3000), 224)
    assert made == [256 * (224 + 2 * 257)]  # of 256 x 768,000: what one pixel's filter reaches


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_pipes_and_links_to_them(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("/dev/zero")
    for name in ("a", "b", "c"):
        for read in (decode, decode_mask, read_header):
            with pytest.raises(ValueError, match=rf"{name}\.png: .*not a regular file"):
                read(str(tmp_path / f"{name}.png"))


def test_suffixes_are_those_of_images_that_pillow_reads():
    assert {*IMG_EXTENSIONS, ".jfif", ".avif", ".gif", ".jp2"} <= suffixes()
    assert not {".pdf", ".h5", ".mpg", ".eps", ".txt"} & suffixes()


def test_enlarged_parts_differ_by_rounding_at_most():
    away = []
    for sides in ((9000, 30), (25, 1031), (17, 291), (23, 230)):
        image = photo(*sides)
        whole = v2.Compose([v2.Resize(37), v2.CenterCrop(32)])(image)
        away.append(np.abs(np.asarray(center_crop(image, 32), int) - np.asarray(whole, int)))
    assert np.max(away) <= 2
    assert np.mean(np.array(away) > 0) < 0.02


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_both_decoders_of_jpegs_return_the_same_pixels(subsampling, tmp_path, monkeypatch):
    smooth = photo(12, 9).resize((133, 91))
    path = saved(tmp_path, "a.jpg", smooth, quality=85, subsampling=subsampling)
    pixels = decode(path)
    monkeypatch.setattr("kdx.data.decode._jpeg_decoder", lambda: None)
    assert torch.equal(decode(path), pixels)


def test_without_torchvisions_decoder_pillow_decodes(monkeypatch):
    monkeypatch.setattr(torch.ops, "image", object())
    assert _jpeg_decoder.__wrapped__() is None
