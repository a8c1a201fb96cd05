"""A folder that timm opens: config.json, model.safetensors, and README.md, the model card."""

from collections.abc import Mapping
from pathlib import Path
from shutil import copymode
from typing import Any

import timm
from timm.models import save_for_hf
from timm.models._hub import generate_readme
from torch import Tensor, nn

from kdx.exporting.formats import Call, Options, by_torch

RUNTIME, FILE = "timm", "{name}-timm/model.safetensors"
FREE_SIZE, MOST = False, None

USAGE = """
```python
import timm

model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()
```
"""


def write(network: nn.Module, images: Tensor, path: Path, options: Options) -> None:
    """See `kdx.exporting.formats.Format`. ValueError for a network that is not timm's."""
    config: Any = getattr(network, "pretrained_cfg", None) or {}
    name = config.get("architecture") if isinstance(config, Mapping) else None
    if not name or not timm.is_model(name):
        kind = type(network).__name__
        raise ValueError(
            f"timm: not an architecture of timm: {kind}. timm opens only its own (`use: timm`), "
            "without --preprocess: export to another format"
        )
    about, made = options.about, options.about["preprocessing"]
    data: dict[str, Any] = {
        "input_size": images.shape[1:],
        "mean": about["mean"],
        "std": about["std"],
    }
    if made["resize"]:
        data["interpolation"] = about["interpolation"]
        if made["crop"] and "shorter_side" in made["resize"]:
            data["crop_pct"] = made["crop"]["size"][0] / made["resize"]["shorter_side"]
    else:
        data["crop_pct"] = 1.0
    owner: Any = network
    owner.pretrained_cfg = {**config, "tag": ""}  # of the published weights, which these are not
    try:
        save_for_hf(
            network, str(path.parent), model_config={"label_names": about["classes"]},
            safe_serialization=True, data_config=data)  # fmt: skip
    finally:
        owner.pretrained_cfg = config
    metrics = {name: f"{value:.4f}" for name, value in about.get("metrics", {}).items()}
    details = {"Architecture": name, "Image size": " x ".join(map(str, images.shape[2:])),
               "Classes": len(about["classes"])}  # fmt: skip
    if metrics:
        details[f"Metrics on {about['test_images']:,} test images"] = metrics
    card = {
        "license": about.get("license", "unknown"),
        "description": f"{name}, trained with kdx.",
        "details": details,
        "usage": USAGE,
    }
    text = generate_readme(card, path.parent.name if "." not in path.parent.name else name)
    readme = path.parent / "README.md"
    readme.write_text(text, encoding="utf-8")
    copymode(readme, path)  # which only its owner may read


def open(path: Path, *, threads: int = 1) -> Call:
    """See `kdx.exporting.formats.Format`."""
    return by_torch(timm.create_model(f"local-dir:{path.parent}", pretrained=True).eval())
