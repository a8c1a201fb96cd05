"""SHA-256 of what a run depends on: weights and images."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import BoxImages, DatasetImages, FileImages, MaskImages, MemoryImages
from kdx.protocols import ImageSource, SceneSource

__all__ = ["DIGITS", "digest_of_images", "digest_of_weights"]

DIGITS = 32  # hexadecimal
THREADS = 16

Add = Callable[[Any], None]


def digest_of_weights(module: nn.Module) -> str:
    """Return the digest of a module's state dict: names, types, shapes, values."""
    sha = sha256()
    for name, value in module.state_dict().items():
        if isinstance(value, Tensor):
            _add_tensor(sha.update, name, value)
        else:  # a module's own extra state
            sha.update(f"{name} {value!r}\n".encode())
    return sha.hexdigest()[:DIGITS]


def digest_of_images(source: ImageSource, *, times: bool = True, labels: bool = False) -> str:
    """Return the digest of images, and of their labels, boxes or classes of ids where asked.

    Of files it reads name, size and, with `times`, the time of change, not the content; of a torch
    Dataset 64 samples.
    """
    sha = sha256()
    if isinstance(source, MemoryImages):
        _add_tensor(sha.update, "images", source.images)
    elif isinstance(source, DatasetImages):
        for image in source.sampled():
            _add_tensor(sha.update, "image", image)
    else:
        assert isinstance(source, FileImages | SceneSource), "views are of one of these kinds"
        paths = source.paths if isinstance(source, FileImages) else source.files
        _add_files(sha.update, paths, times=times)
    if labels:
        _add_tensor(sha.update, "labels", source.labels)
        _add_targets(sha.update, source)
    return sha.hexdigest()[:DIGITS]


def _add_targets(add: Add, source: ImageSource) -> None:
    """Add what two sets of the same files may differ in."""
    if isinstance(source, MaskImages):
        _add_tensor(add, "table", source.table)
    if isinstance(source, BoxImages):
        for boxes in source.boxes:
            _add_tensor(add, "boxes", boxes)


def _add_files(add: Add, paths: Sequence[str], *, times: bool) -> None:
    folders = [os.path.dirname(path) for path in paths]
    shared = len(os.path.commonpath(folders)) if folders else 0
    with ThreadPoolExecutor(THREADS) as threads:
        for path, about in zip(paths, threads.map(os.stat, paths), strict=True):
            time = f" {about.st_mtime_ns}" if times else ""
            add(f"{path[shared:]} {about.st_size}{time}\n".encode())


def _add_tensor(add: Add, name: str, value: Tensor) -> None:
    add(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    add(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
