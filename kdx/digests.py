"""SHA-256 of what a run depends on: weights and images."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import FileImages, MemoryImages
from kdx.protocols import ImageSource

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
    """Return the digest of images, and of their labels where asked.

    Of image files it reads name, size and, with `times`, the time of change, not the content.
    """
    sha = sha256()
    if isinstance(source, MemoryImages):
        _add_tensor(sha.update, "images", source.images)
    else:
        assert isinstance(source, FileImages), "views are of one kind or the other"
        _add_files(sha.update, source, times=times)
    if labels:
        _add_tensor(sha.update, "labels", source.labels)
    return sha.hexdigest()[:DIGITS]


def _add_files(add: Add, source: FileImages, *, times: bool) -> None:
    shared = len(os.path.commonpath([os.path.dirname(path) for path in source.paths]))
    with ThreadPoolExecutor(THREADS) as threads:
        for path, about in zip(source.paths, threads.map(os.stat, source.paths), strict=True):
            time = f" {about.st_mtime_ns}" if times else ""
            add(f"{path[shared:]} {about.st_size}{time}\n".encode())


def _add_tensor(add: Add, name: str, value: Tensor) -> None:
    add(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    add(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
