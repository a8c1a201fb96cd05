"""Any classifier of timm or torchvision as a student. Both are imported when asked for."""

from difflib import get_close_matches
from typing import Any

from torch import nn

__all__ = ["timm", "torchvision"]

AUXILIARY = ("googlenet", "inception_v3")  # would give several outputs in training


def timm(
    *,
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    pretrained: bool = False,
    **kwargs: Any,
) -> nn.Module:
    """Return `timm.create_model(name)`, `kwargs` passed on: images [B, C, H, W] to logits.

    With `pretrained`, timm starts the classifier afresh where `num_classes` differs from the
    published one. ValueError for a name or an argument that timm does not know, and for weights
    that cannot be fetched.
    """
    import timm

    if not timm.is_model(name):
        raise ValueError(_unknown("timm", name, timm.list_models()))
    arguments = {"num_classes": num_classes, "in_chans": in_channels}
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments, **kwargs)
    except (TypeError, RuntimeError, OSError) as error:
        raise ValueError(f"timm {name}: {error}") from error


def torchvision(
    *, name: str, num_classes: int = 10, in_channels: int = 3, **kwargs: Any
) -> nn.Module:
    """Return torchvision's classifier `name` with random weights, `kwargs` passed on.

    Auxiliary classifiers are left out. ValueError for a name or an argument that torchvision does
    not know, and for images without three channels.
    """
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ValueError(_unknown("torchvision", name, known))
    if in_channels != 3:
        raise ValueError(
            f"torchvision {name} takes 3 channels, not {in_channels}: set `data.channels: 3`"
        )
    if name in AUXILIARY:
        kwargs = {"aux_logits": False, "init_weights": True} | kwargs
    try:
        return models.get_model(name, weights=None, num_classes=num_classes, **kwargs)
    except TypeError as error:
        raise ValueError(f"torchvision {name}: {error}") from error


def _unknown(library: str, name: str, known: list[str]) -> str:
    nearest = ", ".join(get_close_matches(name, known, n=3)) or "none is near"
    return f"{library} has no model {name!r}. Nearest: {nearest}"
