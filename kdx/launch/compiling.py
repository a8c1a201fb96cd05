"""Whether torch.compile works here, found out before anything depends on it."""

import torch
from torch import nn

__all__ = ["check_compiler"]


def check_compiler(device: torch.device) -> None:
    """Compile next to nothing on the device; ValueError says what is missing where that fails.

    Takes seconds, most of which the first batch would take otherwise.
    """
    probe = nn.ReLU()
    probe.compile()
    try:
        probe(torch.zeros(2, device=device))
    except Exception as error:  # of many kinds: no C++ compiler, no Triton, a system without either
        first, _, _ = str(error).strip().partition("\n\n")
        reason = " ".join(first.split()) or type(error).__name__
        raise ValueError(
            f"compile: torch.compile does not work here: {reason}. It needs a C++ compiler such as "
            "g++ on the CPU, Triton and a C compiler on a GPU; `compile: false` works without"
        ) from error
