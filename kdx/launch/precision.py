"""The precision of a run: the recipe's, else the launcher's, and only one that really exists."""

import os

import torch

__all__ = ["check_precision", "in_words"]

_FROM_LAUNCHER = "ACCELERATE_MIXED_PRECISION"
_KNOWN = {"no": "float32", "bf16": "bf16", "fp16": "fp16"}


def check_precision(asked: str | None, device: torch.device) -> None:
    """Raise ValueError for a precision that kdx does not know, or that `device` lacks.

    `asked` is the recipe's; where it is None, the launcher's counts. Accelerate would compute in
    float32 for an unknown one and for fp16 on the CPU, and torch emulates bf16 on old GPUs.
    """
    precision, place = asked, "precision"
    if precision is None:
        precision, place = os.environ.get(_FROM_LAUNCHER, "no"), _FROM_LAUNCHER
    if precision not in _KNOWN:
        raise ValueError(
            f"{place}: {precision!r} is not supported: use 'bf16', 'fp16' or 'no', by the "
            "recipe's `precision:` or the launcher's --mixed_precision"
        )
    if precision == "fp16" and device.type == "cpu":
        raise ValueError(f"{place}: 'fp16' does not exist on the CPU: use 'bf16' or 'no'")
    if precision == "bf16" and device.type == "cuda" and not _gpu_has_bf16():
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"{place}: 'bf16' does not exist on {name}: use 'fp16' or 'no'")


def in_words(asked: str | None, used: str) -> str:
    """Name the precision that is used, and the launcher's where the recipe's overrules it.

    The launcher's "no" is not told: `accelerate launch` says it unasked.
    """
    launcher = os.environ.get(_FROM_LAUNCHER, "no")
    overruled = asked is not None and launcher not in (asked, "no")
    words = _KNOWN.get(used, used)
    return f"{words} (by the recipe; the launcher says {launcher})" if overruled else words


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)
