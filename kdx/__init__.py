"""kdx: train a compact convolutional network to its best, from one recipe.

    run = kdx.distill("configs/digits/smallnet3.yaml", epochs=30)
    run.student, run.metrics, run.certificate, run.path

docs/library.md shows these and the pieces for a training loop of your own.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kdx import data, losses, protocols
    from kdx.commands.compress import compress
    from kdx.commands.evaluate import evaluate
    from kdx.exporting.export import export
    from kdx.models import students
    from kdx.models.certificate import Certificate, certify
    from kdx.models.features import Tapped
    from kdx.protocols import ImageData, InputSpec, Outputs
    from kdx.recipe import RecipeError
    from kdx.run.interface import Run, distill, load_student
    from kdx.training import schedules
    from kdx.util.errors import CertificateError, Stopped, TrainingError

__version__ = "0.1.0"
__all__ = [
    "Certificate", "CertificateError", "ImageData", "InputSpec", "Outputs", "RecipeError", "Run",
    "Stopped", "Tapped", "TrainingError", "__version__", "certify", "compress", "data", "distill",
    "evaluate", "export", "load_student", "losses", "protocols", "schedules", "students",
]  # fmt: skip

_NAMES = {
    "kdx.run.interface": ("Run", "distill", "load_student"),
    "kdx.commands.compress": ("compress",),
    "kdx.commands.evaluate": ("evaluate",),
    "kdx.exporting.export": ("export",),
    "kdx.models.certificate": ("Certificate", "certify"),
    "kdx.models.features": ("Tapped",),
    "kdx.protocols": ("ImageData", "InputSpec", "Outputs"),
    "kdx.recipe": ("RecipeError",),
    "kdx.util.errors": ("CertificateError", "Stopped", "TrainingError"),
}
_PLACES = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {"schedules": "kdx.training.schedules", "students": "kdx.models.students"}
_MODULES |= {name: f"kdx.{name}" for name in ("data", "losses", "protocols")}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import kdx` does not wait for torch."""
    if name in _MODULES:
        value = importlib.import_module(_MODULES[name])
    elif name in _PLACES:
        value = getattr(importlib.import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'kdx' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# Before torch is imported: how long its threads spin before they sleep. Long spinning crawls where
# something else wants the cores too, none at all makes small operations slow (benchmarks/LOG.md).
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
# Large tensors on the CPU take pages of 2 MB where Linux grants them: a batch of images is then
# allocated four times as fast (benchmarks/LOG.md).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
