import subprocess
import sys

import kdx.data
from kdx.data.sets import TABLE


def test_the_table_and_the_public_names():
    assert set(TABLE) == {
        *("digits", "fashion_mnist", "cifar10", "cifar100", "image_folder", "voc", "cityscapes"),
        *("coco", "csv", "hf", "webdataset", "yolo"),
    }
    assert all(getattr(kdx.data, name) is make for name, make in TABLE.items())


def test_the_import_is_light():
    check = (
        "import sys, kdx.data; kdx.data.digits(); "
        "sys.exit(bool({'sklearn', 'torchvision'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check]).returncode == 0
