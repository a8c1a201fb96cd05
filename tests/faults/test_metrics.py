"""Metrics count each sample once, whatever the number of processes."""

import json
import warnings
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.distributed
import torch.nn.functional as F
from torch import multiprocessing

from kdx.data import Views, eval_loader
from kdx.data.sources import MemoryImages
from kdx.protocols import InputSpec
from kdx.tasks import Classification
from kdx.training.evaluation import evaluate

CLASSES, BATCH = 10, 6
SIZES = (1, 2, 10, 13, 16, 17)  # of one and two samples, some of three processes get none
WORLDS = (3, 2, 1)


def tables(n):
    """The student's and the teacher's logits [n, CLASSES]; labels, half of them the student's."""
    generator = torch.Generator().manual_seed(n)
    student, teacher = torch.randn(2, n, CLASSES, generator=generator)
    guesses = torch.randint(CLASSES, (n,), generator=generator)
    half = torch.rand(n, generator=generator) < 0.5
    return student, teacher, torch.where(half, student.argmax(1), guesses)


def measure(n, rank, world):
    """Evaluate the teacher, then the student against it, as a run does."""
    student, teacher, labels = tables(n)
    # An image is one pixel, its sample's number, and comes out of the normalisation as that.
    images = torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1)
    views = Views(MemoryImages(images, labels, "made"), InputSpec(1, 1, (0.0,), (1 / 255,)), seed=0)

    def answer(table, images):
        return table[images.flatten().round().long()]

    task = Classification(num_classes=CLASSES)
    how = {"task": task, "samples": n, "device": torch.device("cpu")}
    batches = partial(eval_loader, views, batch_size=BATCH, rank=rank, world=world)
    said = evaluate(partial(answer, teacher), batches(), **how)
    return evaluate(partial(answer, student), batches(), teacher=said.predictions, **how)


def process(rank, directory):
    """Measure all sizes in each world that has this rank; the metrics go to files."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", "The ``compute`` method")  # of a part without samples
    for world in WORLDS:
        if rank >= world:
            return
        store = torch.distributed.FileStore(str(directory / f"store{world}"), world)
        torch.distributed.init_process_group(
            "gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=60)
        )
        found = {n: measure(n, rank, world) for n in SIZES}
        metrics = {n: evaluation.metrics for n, evaluation in found.items()}
        mine = {n: int((evaluation.predictions >= 0).sum()) for n, evaluation in found.items()}
        (directory / f"{world}_{rank}").write_text(json.dumps([metrics, mine]))
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Return what each rank of each world found: metrics, and its number of samples, by size."""
    directory = tmp_path_factory.mktemp("worlds")
    multiprocessing.spawn(process, (directory,), nprocs=max(WORLDS))
    return {
        world: [json.loads((directory / f"{world}_{rank}").read_text()) for rank in range(world)]
        for world in WORLDS
    }


@pytest.mark.parametrize("n", SIZES)
def test_each_sample_is_counted_once_in_any_number_of_processes(n, measured):
    student, teacher, labels = tables(n)
    top5 = student.topk(5).indices
    expected = {
        "top1": (student.argmax(1) == labels).double().mean().item(),
        "top5": (top5 == labels[:, None]).any(1).double().mean().item(),
        "loss": F.cross_entropy(student.double(), labels).item(),
        "agreement": (student.argmax(1) == teacher.argmax(1)).double().mean().item(),
    }
    for world, ranks in measured.items():
        parts = [mine[str(n)] for _, mine in ranks]
        assert sum(parts) == n
        assert max(parts) - min(parts) <= 1
        for metrics, _ in ranks:  # every rank knows them, as it chooses the best epoch by them
            assert metrics[str(n)] == pytest.approx(expected, abs=1e-6), world
