"""Any classifier of timm or torchvision as a teacher, and torchvision's networks for segmentation.

Their weights are random or published. A network with published ones says how its images are
prepared, in timm's convention: `model.pretrained_cfg` with "mean" and "std" per channel, for pixels
in [0, 1], and "input_size" (C, H, W). Otherwise it is None or absent.
"""

from difflib import get_close_matches
from pickle import UnpicklingError
from typing import Any

from torch import Tensor, nn
from torchvision.models import WeightsEnum

__all__ = ["segmentation", "timm", "torchvision"]

IMAGENET = 1000  # classes
AUXILIARY = ("googlenet", "inception_v3")  # would give several outputs in training


def timm(
    *,
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    pretrained: bool | str = False,
    **kwargs: Any,
) -> nn.Module:
    """Return `timm.create_model(name)`, `kwargs` passed on: images [B, C, H, W] to logits.

    `pretrained`: published weights; a string is their tag, "a1_in1k". timm gives the network
    a new classifier if `num_classes` differs from the published one: train it before it teaches.
    Raises ValueError for a name, a tag or an argument that timm does not know, for weights that
    cannot be downloaded, and for arguments that make timm read other files.
    """
    import timm

    for argument in kwargs:
        if argument in ("cache_dir", "checkpoint_path") or argument.startswith("pretrained"):
            raise ValueError(
                f"timm {name}: {argument} is not supported: set the recipe's `weights:` to a file, "
                "or `pretrained:` for published weights"
            )
    full_name = f"{name}.{pretrained}" if isinstance(pretrained, str) else name
    if not timm.is_model(name):
        raise ValueError(f"timm has no model {_nearest(name, timm.list_models())}")
    published = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
    if "." in full_name and full_name not in published:
        raise ValueError(f"timm has no weights {_nearest(full_name, published)}")
    arguments = {"num_classes": num_classes, "in_chans": in_channels}
    try:
        model = timm.create_model(full_name, pretrained=bool(pretrained), **arguments, **kwargs)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"timm {name}: {error}") from error
    except OSError as error:
        raise ValueError(_unfetched(f"timm {full_name}", error)) from error
    if not pretrained:
        # timm names weights that it did not load
        model.pretrained_cfg = None  # pyright: ignore[reportArgumentType]
    return model


def torchvision(
    *,
    name: str,
    num_classes: int = 10,
    in_channels: int = 3,
    pretrained: str | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Return torchvision's classifier `name`, `kwargs` passed on: images [B, 3, H, W] to logits.

    `pretrained`: published weights by torchvision's name, "IMAGENET1K_V1", or "DEFAULT". Without
    them auxiliary classifiers are left out. ValueError for a name or an argument that torchvision
    does not know, images without three channels, another number of classes than the weights have,
    and weights that cannot be fetched or hold more than tensors.
    """
    from torchvision import models

    _check(name, in_channels, models.list_models(module=models))
    weights = _published(name, pretrained, num_classes) if pretrained else None
    if weights is None and name in AUXILIARY:
        kwargs = {"aux_logits": False, "init_weights": True} | kwargs
    try:
        model = models.get_model(name, weights=weights, num_classes=num_classes, **kwargs)
    except TypeError as error:
        raise ValueError(f"torchvision {name}: {error}") from error
    if weights is not None:
        images = weights.transforms()
        cfg = _preparation(images, images.crop_size)
        model.pretrained_cfg = cfg  # pyright: ignore[reportArgumentType]
    return model


def segmentation(
    *,
    name: str,
    num_classes: int = 21,
    in_channels: int = 3,
    pretrained: str | None = None,
    backbone: str | None = None,
) -> nn.Module:
    """Return torchvision's `name` for segmentation: images [B, 3, H, W] to logits [B, C, H, W].

    Such as "fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large". The auxiliary
    classifier is left out; the other keys of the state dict are torchvision's. `pretrained`:
    published weights, "COCO_WITH_VOC_LABELS_V1" or "DEFAULT", of 21 classes. `backbone`: published
    weights of the classifier that it is built on, "IMAGENET1K_V1"; the rest begins at random.
    ValueError as for `torchvision`, and for both at once.
    """
    from torchvision import models

    _check(name, in_channels, models.list_models(module=models.segmentation))
    if pretrained and backbone:
        raise ValueError(
            f"torchvision {name}: `pretrained` includes the backbone: remove `backbone`"
        )
    weights = _published(name, pretrained, num_classes) if pretrained else None
    below = _published(name.partition("_")[2], backbone, IMAGENET) if backbone else None
    network: Any = models.get_model(
        name, weights=weights, weights_backbone=below, num_classes=num_classes
    )
    if weights is not None:
        images = weights.transforms()
        network.pretrained_cfg = _preparation(images, images.resize_size)
        network.aux_classifier = None
    network.register_forward_hook(_logits_only)
    return network


def _logits_only(_network: nn.Module, _images: object, outputs: dict[str, Tensor]) -> Tensor:
    """Return the logits, of the several outputs of torchvision's networks."""
    return outputs["out"]


def _check(name: str, in_channels: int, known: list[str]) -> None:
    if name not in known:
        raise ValueError(f"torchvision has no model {_nearest(name, known)}")
    if in_channels != 3:
        raise ValueError(
            f"torchvision {name} takes 3 channels, not {in_channels}: set `data.channels: 3`"
        )


def _published(name: str, pretrained: str, num_classes: int) -> WeightsEnum:
    """Return the weights, downloaded and known to hold only tensors."""
    from torchvision import models

    known = models.get_model_weights(name).__members__
    if pretrained not in known:
        raise ValueError(f"torchvision {name} has no weights {_nearest(pretrained, list(known))}")
    weights: WeightsEnum = known[pretrained]
    classes = len(weights.meta["categories"])
    if num_classes != classes:
        raise ValueError(
            f"torchvision {name}: {pretrained} has {classes} classes, not {num_classes}: "
            f"set `num_classes: {classes}`, or remove `pretrained`"
        )
    try:  # torchvision itself would unpickle whatever the file holds
        weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    except OSError as error:
        raise ValueError(_unfetched(f"torchvision {name} {pretrained}", error)) from error
    except (UnpicklingError, RuntimeError) as error:
        raise ValueError(
            f"torchvision {name} {pretrained}: refused the file from {weights.url}: it is damaged "
            "or contains more than tensors"
        ) from error
    return weights


def _preparation(images: Any, size: list[int]) -> dict[str, Any]:
    return {
        "mean": tuple(images.mean),
        "std": tuple(images.std),
        "input_size": (3, size[0], size[0]),
    }


def _nearest(name: str, known: list[str]) -> str:
    nearest = [*get_close_matches(name, known, n=3), *get_close_matches(name.lower(), known, n=3)]
    nearest = list(dict.fromkeys(nearest))[:3] or known[:3]
    return f"{name!r}. Nearest: {', '.join(nearest) or 'none'}"


def _unfetched(what: str, error: OSError) -> str:
    reason = str(error).partition("\n")[0]
    return f"{what}: download of the published weights failed ({reason}): set `weights:` to a file"
