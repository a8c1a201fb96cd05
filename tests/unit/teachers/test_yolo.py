import pytest
import timm
import torch

import teachers


@pytest.mark.parametrize("anchors", [2, [[1, 1], [2, 2]]])
def test_an_output_for_each_cell_of_32_pixels(anchors):
    network = teachers.yolo(num_classes=3, anchors=anchors, in_channels=1).eval()
    output = network(torch.randn(2, 1, 96, 160))
    assert output.shape == (2, 16, 3, 5)
    assert not torch.equal(output[:, :, 0], output[:, :, 1])


def test_other_backbones():
    network = teachers.yolo(backbone="mobilenetv3_small_050").eval()
    assert network(torch.zeros(1, 3, 64, 64)).shape == (1, 125, 2, 2)


def test_published_weights_of_the_backbone(tmp_path, monkeypatch):
    torch.manual_seed(0)
    published = timm.create_model("resnet18").state_dict()
    path = tmp_path / "weights.pth"
    torch.save(published, path)
    create = timm.create_model

    def create_from_file(*args, **kwargs):
        return create(*args, pretrained_cfg_overlay={"file": str(path)}, **kwargs)

    monkeypatch.setattr(timm, "create_model", create_from_file)
    state = teachers.yolo(pretrained=True).state_dict()
    backbone = {k.removeprefix("backbone."): v for k, v in state.items() if "backbone" in k}
    assert set(published) - set(backbone) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(value, published[name]) for name, value in backbone.items())


def test_refusals():
    with pytest.raises(ValueError, match="anchors: 0 has no anchor: give"):
        teachers.yolo(anchors=0)
    with pytest.raises(ValueError, match=r"anchors: .* has no anchor: give"):
        teachers.yolo(anchors=[])
    with pytest.raises(ValueError, match=r"timm has no model 'resnet_18'. Nearest: resnet18"):
        teachers.yolo(backbone="resnet_18")
    with pytest.raises(ValueError, match="'vit_tiny_patch16_224' have a stride of 16, not 32"):
        teachers.yolo(backbone="vit_tiny_patch16_224")
