"""Any classifier of timm or torchvision as a student, with random weights.

Both libraries are imported when asked for. Published weights are for teachers (`teachers.timm`);
a student starts from `weights:` where the recipe gives them.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from torch import nn

__all__ = ["timm", "torchvision"]

AUXILIARY = ("googlenet", "inception_v3")  # would give several outputs in training


def timm(*, name: str, num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> nn.Module:
    """Return `timm.create_model(name)`, `kwargs` passed on: images [B, C, H, W] to logits.

    ValueError for a name that timm does not know, and for arguments that make it read files.
    """
    import timm

    if not timm.is_model(name):
        raise ValueError(f"timm has no model {_nearest(name, timm.list_models())}")
    _refuse_loading(kwargs)
    return timm.create_model(name, num_classes=num_classes, in_chans=in_channels, **kwargs)


def torchvision(
    *, name: str, num_classes: int = 10, in_channels: int = 3, **kwargs: Any
) -> nn.Module:
    """Return torchvision's classifier `name`, `kwargs` passed on: images [B, 3, H, W] to logits.

    Auxiliary classifiers are left out. ValueError for a name that torchvision does not know, for
    images without three channels, and for arguments that ask for published weights.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(f"torchvision has no model {_nearest(name, known)}")
    if in_channels != 3:
        raise ValueError(f"{name} takes 3 channels, not {in_channels}: set `data.channels: 3`")
    _refuse_loading(kwargs)
    if name in AUXILIARY:
        kwargs = {"aux_logits": False, "init_weights": True} | kwargs
    return models.get_model(name, num_classes=num_classes, **kwargs)


def _refuse_loading(arguments: Iterable[str]) -> None:
    """Refuse what makes a library fetch, read or unpickle files."""
    for name in arguments:
        if name in ("cache_dir", "checkpoint_path") or name.startswith(("pretrained", "weights")):
            raise ValueError(
                f"{name}: a student starts from random weights, or from `weights:` of the recipe; "
                "for published ones write `use: teachers.timm` or `teachers.torchvision`, with "
                "`pretrained:`"
            )


def _nearest(name: str, known: list[str]) -> str:
    return f"{name!r}. Nearest: {', '.join(get_close_matches(name.lower(), known, n=3)) or 'none'}"
