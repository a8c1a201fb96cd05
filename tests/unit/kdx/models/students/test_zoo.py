import subprocess
import sys

import pytest
import torch

from kdx.models import students


def test_timm():
    network = students.timm(name="resnet18", num_classes=7, in_channels=1).eval()
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 7)


def test_timm_passes_arguments_on():
    thin = students.timm(name="mobilenetv3_small_050", num_classes=7, in_channels=3, drop_rate=0.3)
    assert thin.drop_rate == 0.3
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'drop_rat'"):
        students.timm(name="resnet18", drop_rat=0.3)


def test_timm_unknown_name():
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'. Nearest: .*resnet18"):
        students.timm(name="resnet81")
    with pytest.raises(ValueError, match=r"no model 'MobileNetV3'. Nearest: .*mobilenetv3"):
        students.timm(name="MobileNetV3")
    with pytest.raises(ValueError, match=r"timm has no model 'hf-hub:some/model'"):
        students.timm(name="hf-hub:some/model")


def test_torchvision():
    network = students.torchvision(name="squeezenet1_1", num_classes=7).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_torchvision_gives_one_output_in_training():
    network = students.torchvision(name="googlenet", num_classes=7)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_torchvision_refusals():
    with pytest.raises(
        ValueError, match=r"torchvision has no model 'resnet_18'. Nearest: resnet18"
    ):
        students.torchvision(name="resnet_18")
    with pytest.raises(ValueError, match=r"takes 3 channels, not 1: set `data.channels: 3`"):
        students.torchvision(name="resnet18", in_channels=1)
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'depth'"):
        students.torchvision(name="resnet18", depth=3)


@pytest.mark.parametrize(
    ("build", "argument"),
    [
        (students.timm, "cache_dir"),
        (students.timm, "checkpoint_path"),
        (students.timm, "pretrained"),
        (students.timm, "pretrained_cfg"),
        (students.timm, "pretrained_cfg_overlay"),
        (students.torchvision, "pretrained"),
        (students.torchvision, "weights"),
        (students.torchvision, "weights_backbone"),
    ],
)
def test_no_argument_makes_a_library_load_weights(build, argument):
    with pytest.raises(ValueError, match=rf"^{argument}: a student starts from random weights"):
        build(name="resnet18", **{argument: "/etc/passwd"})


def test_libraries_are_imported_when_asked_for():
    code = "import sys, kdx.models.students; assert not {'timm', 'torchvision'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table_names_what_the_package_offers():
    assert set(students.TABLE) | {"TABLE", "SmallNet", "UNet"} == set(students.__all__)
    assert all(getattr(students, name) is build for name, build in students.TABLE.items())
