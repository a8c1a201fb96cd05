"""Any classifier of timm or torchvision as a student, and those of the paper for ImageNet.

Both libraries are imported when asked for. Weights are random: published ones are for teachers
(`teachers.timm`), and a student starts from the recipe's `weights:`, if any. Images
[B, in_channels, H, W] to logits [B, num_classes].
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from torch import nn

__all__ = ["mobilenet", "mobilenet_v2", "shufflenet_v2", "timm", "torchvision"]

AUXILIARY = ("googlenet", "inception_v3")  # would give several outputs in training


def timm(*, name: str, num_classes: int = 10, in_channels: int = 3, **kwargs: Any) -> nn.Module:
    """Return `timm.create_model(name)`, `kwargs` passed on.

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
    """Return torchvision's classifier `name`, `kwargs` passed on; images have three channels.

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


def mobilenet(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return MobileNet v1 (Howard et al. 2017), timm's: 4,231,976 parameters for 1000 classes."""
    return timm(name="mobilenetv1_100", num_classes=num_classes, in_channels=in_channels)


def mobilenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return MobileNetV2 (Sandler et al. 2018), torchvision's: 3,504,872 parameters."""
    return torchvision(name="mobilenet_v2", num_classes=num_classes, in_channels=in_channels)


def shufflenet_v2(*, num_classes: int = 1000, in_channels: int = 3) -> nn.Module:
    """Return ShuffleNetV2 0.5x (Ma et al. 2018), torchvision's: 1,366,792 parameters."""
    return torchvision(name="shufflenet_v2_x0_5", num_classes=num_classes, in_channels=in_channels)


def _refuse_loading(arguments: Iterable[str]) -> None:
    """Refuse what makes a library fetch, read or unpickle files."""
    for name in arguments:
        if name in ("cache_dir", "checkpoint_path") or name.startswith(("pretrained", "weights")):
            start = "a student starts from random weights, or from `weights:` of the recipe"
            published = "`use: teachers.timm` or `teachers.torchvision`, with `pretrained:`"
            raise ValueError(f"{name}: {start}; for published ones write {published}")


def _nearest(name: str, known: list[str]) -> str:
    return f"{name!r}. Nearest: {', '.join(get_close_matches(name.lower(), known, n=3)) or 'none'}"
