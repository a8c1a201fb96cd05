"""One file a data set; `TABLE` has those that recipes name."""

from collections.abc import Callable, Mapping

from kdx.data.sets.cifar import cifar10, cifar100
from kdx.data.sets.cityscapes import cityscapes
from kdx.data.sets.digits import digits
from kdx.data.sets.fashion_mnist import fashion_mnist
from kdx.data.sets.image_folder import image_folder
from kdx.data.sets.voc import voc
from kdx.protocols import ImageData

__all__ = ["TABLE"]

TABLE: Mapping[str, Callable[..., ImageData]] = {
    "digits": digits,
    "fashion_mnist": fashion_mnist,
    "cifar10": cifar10,
    "cifar100": cifar100,
    "image_folder": image_folder,
    "voc": voc,
    "cityscapes": cityscapes,
}
