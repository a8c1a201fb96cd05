"""The hardware and versions of a run, as its summary has them."""

import platform
import re
import sys
from pathlib import Path

import torch

from kdx.training.runtime import Runtime


def environment(runtime: Runtime) -> dict[str, str | int]:
    """Return the hardware, processes, precision and versions of a run."""
    device = runtime.accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {
        "device": f"{device.type}: {name}",
        "processes": runtime.world,
        "threads": torch.get_num_threads(),
        "precision": runtime.accelerator.mixed_precision,
        "python": platform.python_version(),
        **{name: sys.modules[name].__version__ for name in ("kdx", "torch", "accelerate")},
    }


def processor() -> str:
    """Return the processor's model, or its architecture."""
    path = Path("/proc/cpuinfo")
    about = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.search(r"^model name\s*: (.*)", about, re.M)
    return found[1].strip() if found else platform.processor() or platform.machine()
