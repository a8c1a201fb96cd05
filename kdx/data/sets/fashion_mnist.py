"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28, in 10 classes (Xiao et al. 2017)."""

import gzip
import math
import zlib
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from kdx.data.sets.digits import grey_input
from kdx.data.sets.fetch import Remote, fetch_files, reading
from kdx.data.sizes import resized
from kdx.data.sources import MemoryImages
from kdx.protocols import ImageData
from kdx.tasks import check_labels
from kdx.util.words import counted

__all__ = ["fashion_mnist"]

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
MEAN, STD = 0.2860, 0.3530  # of the 28 x 28 training images
SIDE, IMAGES = 28, 70_000
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
TORCHVISION = Path("FashionMNIST/raw")
UNSIGNED_BYTES = 0x08  # the type, in an idx file
SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"
FILES = {  # the SHA-256 of each, gzipped as its authors did
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}


def fashion_mnist(
    *, root: str | None = None, size: int = 32, channels: int = 1, download: bool = True
) -> ImageData:
    """Open Fashion-MNIST, zero-padded to `size`, or resized if that is below 28.

    Read from `root`: idx files, gzipped or not, or torchvision's folder of them. Without a root,
    from Debian's package or `data`. What is missing is downloaded and verified. ValueError for
    files that are absent, damaged, or disagree.
    """
    spec = grey_input("fashion_mnist", size, channels=channels, mean=MEAN, std=STD, images=IMAGES)
    folder = _find(root) or _download(Path(root or "data"), allowed=download)
    with reading(folder):
        return ImageData(
            train=_read(folder, "train", origin="fashion_mnist train", size=size),
            test=_read(folder, "t10k", origin="fashion_mnist test", size=size),
            classes=CLASSES,
            input=spec,
        )


def _find(root: str | None) -> Path | None:
    places = [DEBIAN, Path("data")] if root is None else [Path(root)]
    folders = [folder for place in places for folder in (place, place / TORCHVISION)]
    return next((f for f in folders if all(find_idx(f, name).is_file() for name in FILES)), None)


def _download(root: Path, *, allowed: bool) -> Path:
    files = [Remote(f"{SITE}/{name}.gz", sha256) for name, sha256 in FILES.items()]
    fetch_files("fashion_mnist", root, files=files, folder=TORCHVISION, download=allowed)
    return root / TORCHVISION


def _read(folder: Path, part: str, *, origin: str, size: int) -> MemoryImages:
    images = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"), shape=(SIDE, SIDE))[:, None]
    labels = read_idx(find_idx(folder, f"{part}-labels-idx1-ubyte"), shape=()).long()
    margins = ((size - SIDE) // 2, (size - SIDE + 1) // 2) * 2
    sized = resized(images, size) if size < SIDE else functional.pad(images, margins)
    source = MemoryImages(sized, labels, origin)
    check_labels(source, classes=len(CLASSES))
    return source


def find_idx(folder: Path, name: str) -> Path:
    """Return `folder`/`name`, or its gzipped form where only that could exist."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def read_idx(path: Path, *, shape: tuple[int, ...]) -> Tensor:
    """Return the array in a file of the idx format (http://yann.lecun.com/exdb/mnist).

    uint8 [N, *shape]. ValueError for its compression, magic number, dimensions or length.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rb") as file:
            raw = bytearray(file.read())
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    start = 4 + 4 * (1 + len(shape))
    magic, expected = raw[:4], bytes([0, 0, UNSIGNED_BYTES, 1 + len(shape)])
    if magic != expected:
        raise ValueError(f"{path}: magic number 0x{magic.hex()} should be 0x{expected.hex()}")
    if len(raw) < start:
        raise ValueError(f"{path}: truncated in the header, after {counted(len(raw), 'byte')}")
    count, *found = (int.from_bytes(raw[i : i + 4], "big") for i in range(4, start, 4))
    if tuple(found) != shape:
        raise ValueError(f"{path}: items of {tuple(found)} should be of {shape}")
    length = start + count * math.prod(shape)
    if len(raw) != length:
        items = counted(count, "item")
        raise ValueError(f"{path}: {counted(len(raw), 'byte')}, not {length:,} for {items}")
    return torch.frombuffer(raw, dtype=torch.uint8)[start:].view(count, *shape)
