"""Data sets, and their images in batches; views are pure functions: see `kdx.data.views`."""

from kdx.data.augment import Augment as Augment
from kdx.data.boxes import BoxImages as BoxImages
from kdx.data.files import FileImages as FileImages
from kdx.data.from_torch import DatasetImages as DatasetImages
from kdx.data.from_torch import from_datasets as from_datasets
from kdx.data.loading import EpochBatches as EpochBatches
from kdx.data.loading import cut as cut
from kdx.data.loading import eval_loader as eval_loader
from kdx.data.loading import most_batches as most_batches
from kdx.data.loading import steps_per_epoch as steps_per_epoch
from kdx.data.loading import train_loader as train_loader
from kdx.data.masks import MaskImages as MaskImages
from kdx.data.mixing import Mixing as Mixing
from kdx.data.noise import corrupt_labels as corrupt_labels
from kdx.data.preprocessing import preparation as preparation
from kdx.data.sets.cifar import cifar10 as cifar10
from kdx.data.sets.cifar import cifar100 as cifar100
from kdx.data.sets.cityscapes import cityscapes as cityscapes
from kdx.data.sets.coco import coco as coco
from kdx.data.sets.csv_file import csv as csv
from kdx.data.sets.digits import digits as digits
from kdx.data.sets.fashion_mnist import fashion_mnist as fashion_mnist
from kdx.data.sets.hf import hf as hf
from kdx.data.sets.image_folder import image_folder as image_folder
from kdx.data.sets.voc import voc as voc
from kdx.data.sets.webdataset import webdataset as webdataset
from kdx.data.sets.yolo import yolo as yolo
from kdx.data.sizes import resized as resized
from kdx.data.sizes import side as side
from kdx.data.sources import MemoryImages as MemoryImages
from kdx.data.splits import Splits as Splits
from kdx.data.splits import split as split
from kdx.data.vectors import VectorImages as VectorImages
from kdx.data.vectors import label_shares as label_shares
from kdx.data.views import Batch as Batch
from kdx.data.views import Views as Views
from kdx.data.views import check_data as check_data

__all__ = [
    "cifar10",
    "cifar100",
    "cityscapes",
    "coco",
    "csv",
    "digits",
    "fashion_mnist",
    "hf",
    "image_folder",
    "voc",
    "webdataset",
    "yolo",
]
"""What recipes may name."""
