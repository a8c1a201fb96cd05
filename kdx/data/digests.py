"""SHA-256 of what a run depends on: weights and images."""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn

from kdx.protocols import Comparable, ImageSource
from kdx.util.threads import in_threads

DIGITS = 32  # hexadecimal

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
    """Return the digest of images, `labels` and targets; of files by name, size and `times`."""
    sha = sha256()
    _add_files(sha.update, source.files, times=times)
    for targets in (False, True) if labels else (False,):
        if targets:
            _add_tensor(sha.update, "labels", source.labels)
        if isinstance(source, Comparable):
            for name, value in source.tensors(targets=targets):
                _add_tensor(sha.update, name, value)
    return sha.hexdigest()[:DIGITS]


def _add_files(add: Add, paths: Sequence[str], *, times: bool) -> None:
    folders = {os.path.dirname(path) for path in paths}
    alike = len({os.path.isabs(folder) for folder in folders}) == 1
    shared = len(os.path.commonpath(folders)) if alike else 0
    for path, about in zip(paths, in_threads(os.stat, paths), strict=True):
        time = f" {about.st_mtime_ns}" if times else ""
        add(f"{path[shared:]} {about.st_size}{time}\n".encode())


def _add_tensor(add: Add, name: str, value: Tensor) -> None:
    add(f"{name} {value.dtype} {list(value.shape)}\n".encode())
    add(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
