"""Data sets, and their images in batches.

A view of a sample is a pure function of (seed, epoch, index): see `kdx.data.views`.
"""

from kdx.data.augment import Augment
from kdx.data.boxes import BoxImages
from kdx.data.check import check_data
from kdx.data.from_torch import DatasetImages, from_datasets
from kdx.data.loading import (
    EpochBatches,
    cut,
    eval_loader,
    most_batches,
    steps_per_epoch,
    train_loader,
)
from kdx.data.masks import MaskImages
from kdx.data.noise import corrupt_labels
from kdx.data.sets.cifar import cifar10, cifar100
from kdx.data.sets.cityscapes import cityscapes
from kdx.data.sets.digits import digits
from kdx.data.sets.fashion_mnist import fashion_mnist
from kdx.data.sets.image_folder import image_folder
from kdx.data.sets.voc import voc
from kdx.data.sizes import resized, side
from kdx.data.sources import FileImages, MemoryImages
from kdx.data.splits import Splits, split
from kdx.data.views import Batch, Views

__all__ = [
    "Augment",
    "Batch",
    "BoxImages",
    "DatasetImages",
    "EpochBatches",
    "FileImages",
    "MaskImages",
    "MemoryImages",
    "Splits",
    "Views",
    "check_data",
    "cifar10",
    "cifar100",
    "cityscapes",
    "corrupt_labels",
    "cut",
    "digits",
    "eval_loader",
    "fashion_mnist",
    "from_datasets",
    "image_folder",
    "most_batches",
    "resized",
    "side",
    "split",
    "steps_per_epoch",
    "train_loader",
    "voc",
]
