"""Pictures of a run's test images, below its directory."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from kdx.data import Views
from kdx.data.augment import to_pixels
from kdx.models.modes import eval_mode
from kdx.protocols import Task
from kdx.util.files import write_whole

SHOWN = 8
DRAWN = 1, 3  # channels: grey or RGB
SMALL = 256  # pixels of a mistake's longer side, at most


@torch.no_grad()
def write_pictures(run_dir: Path, network: nn.Module, task: Task, views: Views) -> list[str]:
    """Write pictures/<image>.png for a few of the views; return their paths below `run_dir`.

    They are spread over the data set. Empty if the task draws none, and as `with_pictures`.
    """
    if views.input.channels not in DRAWN:
        return []
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    count, written = min(SHOWN, len(views)), []
    for index in ((2 * i + 1) * len(views) // (2 * count) for i in range(count)):
        images, targets, _ = views.__getitems__([(0, index)])
        with eval_mode(network):
            outputs = network(images.to(device)).float().cpu()
        picture = task.draw(
            to_pixels(images, views.input)[0].expand(3, -1, -1), targets[0], outputs[0]
        )
        if picture is None:
            break
        written.append(_write(run_dir, index, picture))
    return written


def with_pictures(
    run_dir: Path, mistakes: Sequence[Mapping[str, Any]], views: Views
) -> list[dict[str, Any]]:
    """Write a picture of each mistake of `kdx.run.classes`; return them with its path.

    None are written of images that are neither grey nor RGB.
    """
    if views.input.channels not in DRAWN:
        return [dict(each) for each in mistakes]
    found = []
    for each in mistakes:
        index = each["index"]
        pixels = to_pixels(views.__getitems__([(0, index)]).images, views.input)[0]
        found.append({**each, "picture": _write(run_dir, index, pixels, most=SMALL)})
    return found


def _write(run_dir: Path, index: int, picture: Tensor, *, most: int | None = None) -> str:
    path, file = f"pictures/{index:06d}.png", BytesIO()
    (run_dir / "pictures").mkdir(exist_ok=True)
    image = Image.fromarray(picture.expand(3, -1, -1).permute(1, 2, 0).numpy())
    if most:
        image.thumbnail((most, most))
    image.save(file, format="PNG")
    write_whole(run_dir / path, file.getvalue())
    return path
