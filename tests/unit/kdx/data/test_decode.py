import os
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS, pil_loader
from torchvision.transforms.functional import pil_to_tensor

from kdx.data.decode import (
    MASKS,
    _jpeg_decoder,
    decode,
    decode_annotated,
    decode_mask,
    read_header,
    suffixes,
)
from tests.unit.kdx.data.sets.made import store_turned
from tests.unit.kdx.data.test_crops import photo


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
        message = rf"{name}\.png: the image cannot be decoded: {reason}"
        with pytest.raises(ValueError, match=message):
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


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_annotations_assume(tmp_path, kind, orientation):
    path = store_turned(tmp_path / f"a.{kind}", photo(12, 8), orientation)
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
    square = store_turned(tmp_path / f"b.{kind}", photo(9, 9), orientation)
    if orientation > 1:
        with pytest.raises(ValueError, match="EXIF orientation"):
            decode_annotated(square, (9, 9))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_no_orientation(tmp_path):
    photo(6, 5).save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert read_header(str(tmp_path / "a.jpg")) == ((5, 6), 1)


def test_a_mask_with_an_orientation(tmp_path):
    path = store_turned(tmp_path / "a.png", Image.new("L", (6, 5)), 6)
    with pytest.raises(ValueError, match=r"a\.png: the mask cannot be decoded: EXIF orientation 6"):
        decode_mask(path)


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
