"""One file a data set; `TABLE` has those that recipes name."""

from collections.abc import Callable, Mapping

from kdx.data.sets import (
    cifar,
    cityscapes,
    coco,
    csv_file,
    digits,
    fashion_mnist,
    hf,
    image_folder,
    voc,
    webdataset,
    yolo,
)
from kdx.protocols import ImageData

TABLE: Mapping[str, Callable[..., ImageData]] = {
    "digits": digits.digits,
    "fashion_mnist": fashion_mnist.fashion_mnist,
    "cifar10": cifar.cifar10,
    "cifar100": cifar.cifar100,
    "image_folder": image_folder.image_folder,
    "csv": csv_file.csv,
    "hf": hf.hf,
    "webdataset": webdataset.webdataset,
    "voc": voc.voc,
    "coco": coco.coco,
    "yolo": yolo.yolo,
    "cityscapes": cityscapes.cityscapes,
}
