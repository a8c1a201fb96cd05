"""mAP counts each image once, whatever the number of processes."""

import json
import warnings
from datetime import timedelta

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import multiprocessing

from kdx.detection import assign
from kdx.tasks import Detection

SIZES = (1, 2, 7)  # of one image, the second process gets none
TASK = {"classes": ["ant", "bee"], "anchors": [[1, 1], [2, 2]]}


def about(target):
    """Return the answer that says exactly what there is."""
    found = assign(target, torch.tensor(TASK["anchors"]), grid=(4, 4))
    places, sizes = found.coordinates.split(2, dim=-1)
    classes = 3 * F.one_hot(target[..., 0].long().clamp(min=0), 2)
    values = torch.cat([places.logit(1e-3), sizes, 3 * found.real[..., None], classes], dim=-1)
    boxes = torch.full((len(target), 32, 7), -3.0)
    boxes = boxes.scatter(1, found.slots[..., None].expand_as(values), values)
    return boxes.unflatten(1, (2, 4, 4)).movedim(-1, 2).flatten(1, 2)


def measure(n, rank, world):
    """Measure answers that are about right; images have one to three objects, or none."""
    generator = torch.Generator().manual_seed(n)
    target = torch.rand(n, 3, 6, generator=generator)
    target[..., 0] = torch.randint(2, (n, 3), generator=generator)
    target[..., 3:5] = target[..., 3:5] * 0.3 + 0.2
    target[..., 5] = (target[..., 5] > 0.8).float()
    for image in range(n):
        target[image, 1 + image % 3 :] = -1
    target[4:5] = -1
    answers = about(target) + 0.2 * torch.randn(n, 14, 4, 4, generator=generator)
    meter = Detection(**TASK).meter(torch.device("cpu"))
    mine = range(rank, n, world)
    for part in torch.tensor(mine, dtype=torch.int64).split(2) if mine else ():
        meter.update(answers[part], target[part])
    return meter.compute()


def process(rank, directory):
    warnings.simplefilter("error")
    store = torch.distributed.FileStore(str(directory / "store"), 2)
    torch.distributed.init_process_group(
        "gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    found = {n: measure(n, rank, 2) for n in SIZES}
    (directory / str(rank)).write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_each_image_is_counted_once(tmp_path):
    multiprocessing.spawn(process, (tmp_path,), nprocs=2)
    both = [json.loads((tmp_path / str(rank)).read_text()) for rank in (0, 1)]
    for n in SIZES:
        alone = measure(n, 0, 1)
        assert 0.05 < alone["map_coco"] < alone["map"] <= 1
        for found in both:  # every rank knows them, as it chooses the best epoch by them
            assert found[str(n)] == pytest.approx(alone, abs=1e-9)
