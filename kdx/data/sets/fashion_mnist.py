"""Fashion-MNIST: 60,000 + 10,000 grey images of 28 x 28, in 10 classes (Xiao et al. 2017)."""

from pathlib import Path

from torch import Tensor
from torch.nn import functional

from kdx.data.sets.fetch import fetch
from kdx.data.sets.idx import find_idx, read_idx
from kdx.data.sets.resize import grey_input, resize
from kdx.data.sources import MemoryImages, check_labels
from kdx.protocols import ImageData

__all__ = ["fashion_mnist"]

CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
MEAN, STD = 0.2860, 0.3530  # of the 28 x 28 training images
SIDE, IMAGES = 28, 70_000
DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # the package dataset-fashion-mnist
TORCHVISION = Path("FashionMNIST/raw")
FILES = tuple(
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
)


def fashion_mnist(
    *, root: str | None = None, size: int = 32, channels: int = 1, download: bool = True
) -> ImageData:
    """Open Fashion-MNIST, zero-padded to `size`, or resized where that is below 28.

    Read from `root`: idx files, gzipped or not, or torchvision's folder of them. Without a root,
    from Debian's package or `data`. What is not there is downloaded. Raises ValueError for files
    that are absent, damaged, or disagree.
    """
    spec = grey_input("fashion_mnist", size, channels=channels, mean=MEAN, std=STD, images=IMAGES)
    folder = _find(root) or _download(Path(root or "data"), allowed=download)
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
    def download() -> None:
        from torchvision.datasets import FashionMNIST

        FashionMNIST(root, download=True)

    fetch("fashion_mnist", root, download=download if allowed else None)
    return root / TORCHVISION


def _read(folder: Path, part: str, *, origin: str, size: int) -> MemoryImages:
    images = read_idx(find_idx(folder, f"{part}-images-idx3-ubyte"), shape=(SIDE, SIDE))[:, None]
    labels = read_idx(find_idx(folder, f"{part}-labels-idx1-ubyte"), shape=()).long()
    check_labels(labels, classes=len(CLASSES), origin=origin)
    return MemoryImages(_sized(images, size), labels, origin)


def _sized(images: Tensor, size: int) -> Tensor:
    if size < SIDE:
        return resize(images, size)
    before = (size - SIDE) // 2
    after = size - SIDE - before
    return functional.pad(images, (before, after, before, after))
