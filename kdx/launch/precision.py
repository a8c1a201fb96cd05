"""Whether the device can do what is asked for: precision, torch.compile, memory format."""

import os

import torch
from torch import nn

_FROM_LAUNCHER = "ACCELERATE_MIXED_PRECISION"
_KNOWN = {"no": "float32", "bf16": "bf16", "fp16": "fp16"}


def check_precision(asked: str | None, device: torch.device, *, place: str = "precision") -> None:
    """Raise ValueError for an unknown precision, and for one that `device` lacks.

    `asked` is the recipe's at `place`; if it is None, the launcher's counts. Accelerate would
    compute in float32 for an unknown one and for fp16 on the CPU; torch emulates bf16 on old GPUs.
    """
    precision = asked
    if precision is None:
        precision, place = os.environ.get(_FROM_LAUNCHER, "no"), _FROM_LAUNCHER
    if precision not in _KNOWN:
        use = "'bf16', 'fp16' or 'no', by the recipe's `precision:` or the launcher's"
        raise ValueError(f"{place}: {precision!r} is not supported: use {use} --mixed_precision")
    if precision == "fp16" and device.type == "cpu":
        raise ValueError(f"{place}: 'fp16' is not supported on the CPU: use 'bf16' or 'no'")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported(False):
        name = torch.cuda.get_device_name(device)
        raise ValueError(f"{place}: 'bf16' is not supported on {name}: use 'fp16' or 'no'")


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context of a precision that `check_precision` takes; "no" is float32."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype, enabled=dtype is not None)


def in_words(asked: str | None, used: str) -> str:
    """Return the precision in use, and the launcher's if the recipe's overrides it, unless "no"."""
    launcher = os.environ.get(_FROM_LAUNCHER, "no")
    overridden = asked is not None and launcher not in (asked, "no")
    words = _KNOWN.get(used, used)
    return f"{words} (by the recipe; the launcher says {launcher})" if overridden else words


def check_compiler(device: torch.device) -> None:
    """Compile a ReLU on the device; ValueError with what is missing if that fails."""
    probe = nn.ReLU()
    probe.compile()
    try:
        probe(torch.zeros(2, device=device))
    except Exception as error:  # of many kinds: no C++ compiler, no Triton, a system without either
        first, _, _ = str(error).strip().partition("\n\n")
        reason = " ".join(first.split()) or type(error).__name__
        raise ValueError(
            f"compile: torch.compile does not work here: {reason}. It needs a C++ compiler such as "
            "g++ on the CPU, Triton and a C compiler on a GPU; or set `compile: false`"
        ) from error


def breaks_channels_last(student: nn.Module) -> bool:
    """Return whether oneDNN would write beyond its memory for the gradient of a float32 weight.

    That of torch 2.14 does, on processors with AVX-512, for a strided convolution with a kernel of
    1 and fewer than 16 input channels, where the batch is odd: the process dies.
    """
    return any(
        isinstance(each, nn.Conv2d)
        and max(each.kernel_size) == 1 < max(each.stride)
        and each.in_channels < 16
        for each in student.modules()
    )
