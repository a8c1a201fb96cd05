"""Test images with their targets and a network's outputs drawn on them."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from kdx.data import Views
from kdx.models.modes import eval_mode
from kdx.protocols import InputSpec, Task

SHOWN = 8


@torch.no_grad()
def write_pictures(run_dir: Path, network: nn.Module, task: Task, views: Views) -> list[str]:
    """Write pictures/<image>.png for a few of the views; return their paths below `run_dir`.

    They are spread over the data set. Empty if the task draws none.
    """
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    count = min(SHOWN, len(views))
    written: list[str] = []
    for index in ((2 * i + 1) * len(views) // (2 * count) for i in range(count)):
        images, targets, _ = views.__getitems__([(0, index)])
        with eval_mode(network):
            outputs = network(images.to(device)).float().cpu()
        picture = task.draw(_pixels(images[0], views.input), targets[0], outputs[0])
        if picture is None:
            break
        name = f"pictures/{index:06d}.png"
        (run_dir / "pictures").mkdir(exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(run_dir / name)
        written.append(name)
    return written


def _pixels(image: Tensor, spec: InputSpec) -> Tensor:
    """Return uint8 [3, H, W] of a normalised image [C, H, W]; grey is repeated."""
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    return (image * std + mean).mul(255).round().clamp(0, 255).byte().expand(3, -1, -1)
