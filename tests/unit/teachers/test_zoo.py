import inspect
from copy import deepcopy
from functools import partial
from pickle import UnpicklingError
from urllib.error import URLError

import pytest
import timm
import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum

import teachers


@pytest.fixture
def published(monkeypatch):
    """Have torchvision's download return the seeded weights of a ResNet-18."""
    torch.manual_seed(0)
    state = models.resnet18().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_a, **_k: state)
    return state


def failing_download(monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(WeightsEnum, "get_state_dict", fail)


def same(state, other):
    return state.keys() == other.keys() and all(torch.equal(state[k], other[k]) for k in state)


@pytest.mark.parametrize("build", [teachers.resnet18, teachers.torchvision])
def test_torchvision_published_weights(published, build):
    name = {} if build is teachers.resnet18 else {"name": "resnet18"}
    network = build(**name, num_classes=1000, pretrained="IMAGENET1K_V1")
    assert same(network.state_dict(), published)
    assert network.pretrained_cfg == {
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "input_size": (3, 224, 224),
    }


def test_torchvision_reads_downloads_as_tensors_alone(monkeypatch):
    asked = []

    def download(_self, **kwargs):
        asked.append(kwargs)
        return models.resnet18().state_dict()

    monkeypatch.setattr(WeightsEnum, "get_state_dict", download)
    teachers.resnet18(num_classes=1000, pretrained="DEFAULT")
    assert asked[0]["weights_only"] is True
    assert asked[0]["check_hash"] is True


def test_torchvision_random_weights():
    network = teachers.torchvision(name="googlenet", num_classes=7)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_torchvision_refusals(monkeypatch):
    with pytest.raises(ValueError, match=r"no model 'resnet_18'. Nearest: resnet18"):
        teachers.torchvision(name="resnet_18")
    with pytest.raises(ValueError, match=r"takes 3 channels, not 1: set `data.channels: 3`"):
        teachers.torchvision(name="resnet18", in_channels=1)
    with pytest.raises(ValueError, match=r"no weights 'IMAGENET1K_V3'. Nearest: IMAGENET1K_V"):
        teachers.torchvision(name="resnet18", num_classes=1000, pretrained="IMAGENET1K_V3")
    with pytest.raises(ValueError, match=r"has 1000 classes, not 10: set `num_classes: 1000`"):
        teachers.torchvision(name="resnet18", pretrained="DEFAULT")
    with pytest.raises(ValueError, match=r"torchvision resnet18: .* unexpected .* 'depth'"):
        teachers.torchvision(name="resnet18", depth=3)
    failing_download(monkeypatch, URLError("no route"))
    with pytest.raises(ValueError, match=r"download .* failed \(.*no route.*\): set `weights:`"):
        teachers.resnet18(num_classes=1000, pretrained="DEFAULT")
    failing_download(monkeypatch, UnpicklingError("posix.system"))
    with pytest.raises(ValueError, match=r"refused the file .* damaged or contains more than"):
        teachers.resnet18(num_classes=1000, pretrained="DEFAULT")


SMALL = "lraspp_mobilenet_v3_large"


@pytest.mark.parametrize("name", [SMALL, "deeplabv3_mobilenet_v3_large"])
def test_segmentation_answers_with_one_tensor_of_the_images_size(name):
    network = teachers.segmentation(name=name, num_classes=7).eval()
    assert network(torch.zeros(1, 3, 64, 96)).shape == (1, 7, 64, 96)
    assert deepcopy(network)(torch.zeros(1, 3, 32, 32)).shape == (1, 7, 32, 32)
    assert not [
        key for key in network.state_dict() if not key.startswith(("backbone", "classifier"))
    ]


def test_segmentation_published_weights_without_the_auxiliary_classifier(monkeypatch):
    name = "deeplabv3_mobilenet_v3_large"
    torch.manual_seed(0)
    plain = {"weights_backbone": None, "num_classes": 21}
    state = models.get_model(name, aux_loss=True, **plain).state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_a, **_k: state)
    network = teachers.segmentation(name=name, num_classes=21, pretrained="COCO_WITH_VOC_LABELS_V1")
    kept = {key: value for key, value in state.items() if not key.startswith("aux_classifier")}
    assert len(kept) < len(state)
    assert same(network.state_dict(), kept)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 21, 64, 64)
    assert network.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)
    assert network.pretrained_cfg["input_size"] == (3, 520, 520)


def test_segmentation_on_a_published_backbone(monkeypatch):
    torch.manual_seed(0)
    state = models.mobilenet_v3_large().state_dict()
    monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda *_a, **_k: state)
    network = teachers.segmentation(name=SMALL, num_classes=7, backbone="IMAGENET1K_V1")
    kept = {f"backbone.{key[9:]}": v for key, v in state.items() if key.startswith("features.")}
    assert same(network.backbone.state_dict(prefix="backbone."), kept)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7, 64, 64)


def test_segmentation_refusals():
    with pytest.raises(ValueError, match="`pretrained` includes the backbone: remove `backbone`"):
        teachers.segmentation(name=SMALL, pretrained="DEFAULT", backbone="DEFAULT")
    with pytest.raises(ValueError, match=r"resnet50 has no weights 'COCO'. Nearest: IMAGENET"):
        teachers.segmentation(name="fcn_resnet50", backbone="COCO")
    with pytest.raises(ValueError, match=r"no model 'resnet18'. Nearest: .*resnet"):
        teachers.segmentation(name="resnet18")
    with pytest.raises(ValueError, match=r"takes 3 channels, not 1: set `data.channels: 3`"):
        teachers.segmentation(name=SMALL, in_channels=1)
    with pytest.raises(ValueError, match=r"COCO_WITH_VOC_LABELS_V1 has 21 classes, not 34"):
        teachers.segmentation(name=SMALL, num_classes=34, pretrained="COCO_WITH_VOC_LABELS_V1")


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """Save seeded weights of timm's ResNet-18, and have timm take them for the published ones."""
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(timm.create_model("resnet18").state_dict(), path)
    overlaid = partial(timm.create_model, pretrained_cfg_overlay={"file": str(path)})
    monkeypatch.setattr(timm, "create_model", overlaid)
    return path


@pytest.mark.parametrize("pretrained", [True, "a1_in1k"])
def test_timm_published_weights(checkpoint, pretrained):
    network = teachers.timm(name="resnet18", num_classes=1000, pretrained=pretrained)
    assert same(network.state_dict(), torch.load(checkpoint))
    assert network.pretrained_cfg["mean"] == (0.485, 0.456, 0.406)
    assert network.pretrained_cfg["input_size"] == (3, 224, 224)


def test_timm_random_weights_claim_no_preparation():
    network = teachers.timm(name="resnet18", num_classes=7, in_channels=1).eval()
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 7)
    assert network.pretrained_cfg is None
    assert isinstance(network, nn.Module)


LOADING = [
    "cache_dir",
    "checkpoint_path",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_model_args",
]


@pytest.mark.parametrize("argument", LOADING)
def test_timm_reads_no_other_files(argument, monkeypatch):
    monkeypatch.setattr(timm, "create_model", lambda *_a, **_k: pytest.fail("timm was asked"))
    with pytest.raises(
        ValueError, match=rf"timm resnet18: {argument} is not supported: .* `weights:`"
    ):
        teachers.timm(name="resnet18", **{argument: "/etc/passwd"})


def test_what_timm_itself_takes_is_known():
    """A parameter that a later timm adds has to be judged: does it read files?"""
    plain = {"model_name", "pretrained", "scriptable", "exportable", "no_jit", "kwargs"}
    assert set(inspect.signature(timm.create_model).parameters) <= plain | {*LOADING}


def test_timm_refusals(monkeypatch):
    with pytest.raises(ValueError, match=r"timm has no model 'resnet81'. Nearest: .*resnet18"):
        teachers.timm(name="resnet81")
    with pytest.raises(ValueError, match=r"no weights 'resnet18.a9_in1k'. Nearest: .*a1_in1k"):
        teachers.timm(name="resnet18", pretrained="a9_in1k")
    with pytest.raises(ValueError, match=r"timm resnet18: .* unexpected .* 'drop_rat'"):
        teachers.timm(name="resnet18", drop_rat=0.3)

    def fail(*_args, **_kwargs):
        raise OSError("no route")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(ValueError, match=r"timm resnet18: download .* failed \(no route\)"):
        teachers.timm(name="resnet18", pretrained=True)
