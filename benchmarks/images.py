"""Images a second and core from a folder of JPEGs: kdx, torchvision and timm.

    python -m benchmarks.images

Writes 1,000 JPEGs of 500 x 375 pixels: parts of scikit-learn's two photographs, in quality 90. Each
contender crops them at random to 224 x 224, mirrors every other one and normalises them, in batches
of 128 that are read once, as by a network's first layer. Speeds are images by the CPU seconds of
all processes, which depend less on the load of the machine than seconds. All run in one process,
with kdx's settings of the allocator; Torch has one thread.
"""

import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import kdx.data  # before torch, for which it sets what then holds for all contenders

# isort: split
import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from sklearn.datasets import load_sample_images
from timm.data.dataset_factory import create_dataset
from timm.data.loader import create_loader
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from benchmarks.output import TableRow, options, selected, show, write
from kdx.commands.shared import guarded
from kdx.data.augment import Augment, augmented, normalise
from kdx.data.crops import draw_numbers, resized_crop
from kdx.data.decode import decode
from kdx.data.sets.reading import MEAN, STD
from kdx.protocols import InputSpec
from kdx_lab.complexity.rounds import Quartiles, Rounds, interleave

__all__ = ["main"]

WIDTH, HEIGHT, QUALITY, CLASSES = 500, 375, 90, 10
SIZE, BATCH, SCALE = 224, 128, (0.08, 1.0)
SPEC, AUGMENT = InputSpec(3, SIZE, MEAN, STD), Augment(resized_crop=SCALE, flip=True)
KDX = "kdx"
NOTE = """Medians of the rounds [quartiles]; ratios are within a round: kdx over this row."""

Epoch = Callable[[int], Iterable[Sequence[Any]]]  # of a number: batches, images first


def main(arguments: list[str] | None = None) -> None:
    """Measure the selected loaders, print the tables, write JSON with --json."""
    parser = options(__doc__, rounds=7)
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--images", type=int, default=1000, metavar="N", help="default: 1000")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads or 1)
    warnings.filterwarnings("ignore", message=".*TorchVision are deprecated")
    with TemporaryDirectory() as root:
        write_images(Path(root), args.images)
        names = selected(list(CONTENDERS), args.only)
        epochs = {name: CONTENDERS[name](root, args.workers) for name in names}
        walls: dict[str, list[float]] = {name: [] for name in names}
        for name in names:
            _epoch(epochs[name], 0)
        rounds = interleave(partial(_run, epochs, walls), names, rounds=args.rounds)
        parts = _parts(ImageFolder(root))
    rows = [_row(name, rounds, Rounds(walls)) for name in names]
    title = f"{args.images:,} JPEGs, {args.rounds} rounds, workers: {args.workers}"
    show(title, rows, Console(), note=NOTE)
    show("Parts of kdx, ms an image", parts, Console())
    if args.json:
        write(args.json, [*rows, *parts], rounds=args.rounds, workers=args.workers)


def write_images(root: Path, count: int) -> None:
    """Write JPEGs of photographs' parts, into folders of 10 classes."""
    photographs = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    random = np.random.default_rng(0)
    for number in range(count):
        photograph = photographs[number % 2]
        share, left, top = random.uniform(0.5, 0.88), random.uniform(), random.uniform()
        width, height = int(640 * share), int(480 * share)
        x, y = int(left * (photograph.width - width)), int(top * (photograph.height - height))
        part = photograph.resize((WIDTH, HEIGHT), box=(x, y, x + width, y + height))
        folder = root / f"{number % CLASSES}"
        folder.mkdir(exist_ok=True)
        part.save(folder / f"{number:04}.jpg", quality=QUALITY)


def _kdx(root: str, workers: int) -> Epoch:
    found = ImageFolder(root)
    source = kdx.data.FileImages([path for path, _ in found.samples], torch.tensor(found.targets))
    views = kdx.data.Views(source, SPEC, seed=0, augment=AUGMENT)
    batches = kdx.data.EpochBatches(len(source), batch_size=BATCH, seed=0)
    loader = kdx.data.train_loader(views, batches, workers=workers, channels_last=True)

    def epoch(number: int) -> Iterable[Sequence[Any]]:
        batches.set_epoch(number)
        return loader

    return epoch


def _torchvision(root: str, workers: int, *, tensors: bool) -> Epoch:
    changes = [v2.RandomResizedCrop(SIZE, SCALE, antialias=True), v2.RandomHorizontalFlip()]
    ending = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    convert = [] if tensors else [v2.PILToTensor()]
    read: Any = {"loader": partial(decode_image, mode=ImageReadMode.RGB)} if tensors else {}
    images = ImageFolder(root, v2.Compose([*changes, *convert, *ending]), **read)
    kept = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(images, BATCH, shuffle=True, **kept)
    return lambda number: loader


def _timm(root: str, workers: int) -> Epoch:
    images: Any = create_dataset("", root=root)
    loader = create_loader(
        images,
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        scale=SCALE,
        re_prob=0.0,
        color_jitter=0.0,
        interpolation="bilinear",
        num_workers=workers,
        persistent_workers=workers > 0,
        device=torch.device("cpu"),
        pin_memory=False,
    )
    return lambda number: loader


CONTENDERS: dict[str, Callable[[str, int], Epoch]] = {
    KDX: _kdx,
    "torchvision v2, PIL": partial(_torchvision, tensors=False),
    "torchvision v2, decode_image": partial(_torchvision, tensors=True),
    "timm": _timm,
}


def _run(epochs: dict[str, Epoch], walls: dict[str, list[float]], name: str) -> float:
    """Return images by CPU second of an epoch; keep those by second."""
    number, started, before = len(walls[name]) + 1, time.perf_counter(), _used()
    images = _epoch(epochs[name], number)
    walls[name].append(images / (time.perf_counter() - started))
    return images / (_used() - before)


def _epoch(epoch: Epoch, number: int) -> int:
    images = 0
    for batch in epoch(number):
        batch[0].sum()
        images += len(batch[0])
    return images


def _used() -> float:
    """Return the CPU seconds of this process and its workers."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children())]
    return sum(each.user + each.system for each in times)


def _row(name: str, rounds: Rounds, walls: Rounds) -> TableRow:
    with_kdx = KDX in rounds.speeds
    return {
        "": name,
        "img/s a core": rounds.speed(name),
        "img/s": walls.speed(name),
        "kdx over it, a core": rounds.ratio(KDX, name) if with_kdx else None,
        "kdx over it": walls.ratio(KDX, name) if with_kdx else None,
    }


def _parts(found: ImageFolder) -> list[TableRow]:
    """Return what the parts of a batch of kdx take: CPU milliseconds an image."""
    paths = [path for path, _ in found.samples[:BATCH]]
    keys = [(0, index) for index in range(len(paths))]
    images = [decode(path) for path in paths]
    drawn = draw_numbers(0, keys)

    def crop() -> list[torch.Tensor]:
        each = zip(images, drawn, strict=True)
        return [resized_crop(image, SIZE, scale=SCALE, numbers=numbers) for image, numbers in each]

    views, batch = crop(), torch.empty(len(paths), 3, SIZE, SIZE, dtype=torch.uint8)
    batch = batch.contiguous(memory_format=torch.channels_last)
    parts: dict[str, Callable[[], object]] = {
        "read": lambda: [Path(path).read_bytes() for path in paths],
        "read, decode": lambda: [decode(path) for path in paths],
        "draw": lambda: draw_numbers(0, keys),
        "crop, resize": crop,
        "into the batch": lambda: [row.copy_(v) for row, v in zip(batch, views, strict=True)],
        "mirror": lambda: augmented(batch, AUGMENT, keys, seed=0),
        "normalise": lambda: normalise(batch, SPEC, channels_last=True),
    }
    return [{"": name, "ms": _milliseconds(each, len(paths))} for name, each in parts.items()]


def _milliseconds(part: Callable[[], object], images: int, rounds: int = 7) -> Quartiles:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        part()
        times.append(1000 * (time.process_time() - started) / images)
    return Quartiles.of(times)


if __name__ == "__main__":
    sys.exit(guarded(main))
