"""The contract of student transforms, on those that there are and on a toy."""

from functools import partial

import pytest

import expand
from expand import ExpandNet
from kdx.models.students import smallnet, smallnet4
from quantize import QAT
from tests.contracts import check_transform
from tests.toys import Faulty, Rescale

IMAGES = (8, 3, 32, 32)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (smallnet, {"conv": "cl"}),
        (smallnet, {"conv": "cl", "linear": True, "rate": 2, "mode": "unfolded"}),
        (smallnet, {"conv": None, "linear": True, "rate": 1.5}),
        (partial(smallnet, kernel_size=7), {"conv": "ck", "linear": True}),
        (partial(smallnet4, kernel_size=5), {"conv": "auto", "stem": "expand", "stride": "last"}),
        (partial(smallnet4, kernel_size=9), {"conv": "ck", "linear": True, "classifier": "expand"}),
    ],
)
def test_expandnet(network, options):
    check_transform(partial(ExpandNet, **options), network, IMAGES, phases=["nonlinear", "linear"])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("OREPA", {"init": "scaled"}),
        ("DOConv", {}),
        ("RepVGG", {}),
        ("ACNet", {}),
        ("DBB", {"init": "preserve"}),
        ("MobileOne", {"copies": 2}),
        ("ExpandNet", {"conv": "cl", "identity": True, "stem": "expand"}),
    ],
)
def test_the_other_transforms(name, options):
    phases = ["nonlinear", "linear"] if name == "ExpandNet" else []
    made = partial(getattr(expand, name), **options)
    check_transform(made, partial(smallnet4, kernel_size=5), IMAGES, phases=phases)


@pytest.mark.parametrize("start", ["int8", "float"])
def test_qat(start):
    check_transform(partial(QAT, start=start), smallnet, IMAGES, phases=["float", "int8"])


def test_a_toy():
    check_transform(Rescale, smallnet, IMAGES, phases=["fixed", "free"])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (partial(Rescale, fold=False), "restored, it is another function: .* off in torch.float32"),
        (partial(Faulty, fault="keys"), "restored, it is another network"),
        (partial(Faulty, fault="classes"), "restored, it is another network"),
        (partial(Faulty, fault="argument"), "its argument changed"),
    ],
)
def test_broken_transforms_do_not_pass(broken, message):
    with pytest.raises(AssertionError, match=message):
        check_transform(broken, smallnet, IMAGES, phases=[])
