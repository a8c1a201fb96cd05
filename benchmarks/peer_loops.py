"""The contenders of `peers.py`: each is a function from `Spec` to a callable that runs an epoch.

All train the same compact network (or its expansion) with the same teacher on the same images,
padded, cropped and flipped: 0.1 cross-entropy + 0.9 KD with T = 4, SGD with momentum 0.9.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision.transforms import v2

import expand
from benchmarks.arms import COMPACT, Bench
from benchmarks.training import sgd
from kdx.data import MemoryImages
from kdx.training.job import Job, build
from kdx_lab.complexity.rounds import Step

__all__ = ["LOOPS", "Spec"]

TEMPERATURE, ALPHA = 4.0, 0.1
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Spec:
    """The settings of a contender, with a recipe for networks and data, and its own directory.

    `workers` and `transforms` ("pil" or "tensor") are those of a standard DataLoader; `expanded`
    trains the ExpandNet-CL, `remembered` uses a cache or memo of the teacher's outputs.
    """

    recipe: Path
    directory: Path
    common: tuple[str, ...]
    workers: int = 0
    transforms: str = "tensor"
    expanded: bool = False
    remembered: bool = False
    stack: ClassVar[ExitStack] = ExitStack()  # closed with the process

    @property
    def bench(self) -> Bench:
        """The recipe, to load."""
        return Bench(self.recipe, self.directory, self.common, self.stack)

    @cached_property
    def job(self) -> Job:
        """The compact network, its teacher (random weights) and the images."""
        return build(self.bench.load(*COMPACT), teacher_weights=False)

    @property
    def teacher(self) -> nn.Module:
        """The teacher, in eval mode."""
        return self.job.teachers["teacher"].module

    @property
    def loading(self) -> Mapping[str, Any]:
        """Arguments of a DataLoader."""
        size = self.job.recipe.data.batch_size
        keep = self.workers > 0
        return {"batch_size": size, "num_workers": self.workers, "persistent_workers": keep}


class Images(Dataset[tuple[Tensor, int]]):
    """The training images as a standard data set, one at a time."""

    def __init__(self, spec: Spec) -> None:
        data, source = spec.job.data, spec.job.splits.train
        assert isinstance(source, MemoryImages)
        images = source.images.expand(-1, data.input.channels, -1, -1)
        self.labels: list[int] = source.labels.tolist()
        pil = spec.transforms == "pil"
        self.images = [_pil(image) if pil else image.contiguous() for image in images]
        augment = spec.job.recipe.data.augment
        self.transform = v2.Compose(
            [
                v2.RandomCrop(data.input.size, padding=augment.crop),
                *([v2.RandomHorizontalFlip()] if augment.flip else []),
                *([v2.PILToTensor()] if pil else []),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(data.input.mean, data.input.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def _pil(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def plain(spec: Spec) -> Step:
    """A plain loop with a live teacher; the expanded network runs unfolded."""
    student, teacher = spec.job.student, spec.teacher
    if spec.expanded:
        student = expand.expand(student, conv="cl", mode="unfolded")
    student.train()
    optimizer = sgd(student)
    loader = DataLoader(Images(spec), shuffle=True, **spec.loading)

    def epoch() -> None:
        for images, labels in loader:
            with torch.no_grad():
                soft = F.softmax(teacher(images) / TEMPERATURE, dim=1)
            logits = student(images)
            log = F.log_softmax(logits / TEMPERATURE, dim=1)
            kd = TEMPERATURE**2 * F.kl_div(log, soft, reduction="batchmean")
            (ALPHA * F.cross_entropy(logits, labels) + (1 - ALPHA) * kd).backward()
            optimizer.step()
            optimizer.zero_grad()

    return epoch


def torchdistill(spec: Spec) -> Step:
    """torchdistill's DistillationBox with its KDLoss; `remembered`: its per-image cache."""
    from torchdistill.core.distillation import (  # pyright: ignore[reportMissingImports]
        get_distillation_box,
    )

    whole = {"module_path": ".", "module_io": "output"}
    sides = {
        f"{who}_{key}": value for who in ("student", "teacher") for key, value in whole.items()
    }
    kd = {"key": "KDLoss", "kwargs": {**sides, "temperature": TEMPERATURE, "alpha": ALPHA}}
    loader = {
        "dataset_id": "train",
        "sampler": {"class_or_func": RandomSampler},
        "kwargs": dict(spec.loading),
    }
    if spec.remembered:
        loader["cache_output"] = str(spec.directory / "cache")
    config = {
        "num_epochs": 1,
        "train_data_loader": loader,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": {"lr": 1e-4, "momentum": 0.9}},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": kd, "weight": 1.0}}},
        },
    }
    sets = {"train": Images(spec)}
    box = get_distillation_box(spec.teacher, spec.job.student, sets, config, CPU, None, False, 1.0)

    def epoch() -> None:
        box.pre_epoch_process(epoch=0)
        for images, labels, extra in box.train_data_loader:
            loss = box.forward_process(images, targets=labels, supp_dict=extra)
            box.post_forward_process(loss=loss)
        box.post_epoch_process()

    return epoch


def kdx(spec: Spec) -> Step:
    """A recipe of kdx: its views, losses and log."""
    bench = spec.bench
    overrides = [] if spec.expanded else COMPACT
    return bench.epochs(bench.runner(*overrides, remembered=spec.remembered))


LOOPS: Mapping[str, Callable[[Spec], Step]] = {
    "plain": plain,
    "torchdistill": torchdistill,
    "kdx": kdx,
}
