"""The paper's larger networks: parameters by its conventions, shapes, refusals."""

import pytest
import torch
from torch import nn

import expand
from kdx.models import students
from kdx.recipe.arguments import check, fill


def parameters(build, **arguments):
    with torch.device("meta"):
        return sum(p.numel() for p in build(**arguments).parameters())


@pytest.mark.parametrize(
    ("name", "arguments", "count"),
    [
        ("mobilenet", {}, 4_231_976),
        ("mobilenet_v2", {}, 3_504_872),
        ("shufflenet_v2", {}, 1_366_792),
        ("alexnet", {"channels": 128}, 2_303_656),
        ("alexnet", {}, 2_726_696),
        ("alexnet", {"channels": 512}, 3_572_776),
        ("yolo_lite", {}, 572_941),
        ("unet", {}, 7_761_186),
    ],
)
def test_parameters(name, arguments, count):
    assert parameters(students.TABLE[name], **arguments) == count


def test_alexnet_is_torchvisions_up_to_its_classifier():
    theirs = students.torchvision(name="alexnet", num_classes=10).features
    ours = students.alexnet(num_classes=10).eval()
    state = dict(zip(list(ours.state_dict())[:-2], theirs.state_dict().values(), strict=True))
    ours.load_state_dict(state | {"fc.weight": torch.eye(10, 256), "fc.bias": torch.ones(10)})
    images = torch.randn(2, 3, 96, 80, generator=torch.Generator().manual_seed(0))
    pooled = theirs(images).mean(dim=(2, 3))
    torch.testing.assert_close(ours(images), pooled[:, :10] + 1)


def test_alexnets_kernels_become_chains():
    """Appendix A.4: CK on conv1, of five 3 x 3 kernels with the stride on the last, and conv2."""
    with torch.device("meta"):
        rows = {row.path: row for row in expand.plan(students.alexnet(), preset="ck")}
    assert [path for path, row in rows.items() if row.strategy] == ["conv1", "conv2"]
    assert [factor.kernel for factor in rows["conv1"].factors] == [(3, 3)] * 5
    assert rows["conv1"].stride_at == 4
    assert [factor.kernel for factor in rows["conv2"].factors] == [(3, 3)] * 2


def test_networks_take_the_classes_and_channels_of_the_data():
    images = torch.zeros(1, 1, 64, 64)
    assert students.mobilenet(num_classes=7, in_channels=1).eval()(images).shape == (1, 7)
    assert students.alexnet(num_classes=7, in_channels=1).eval()(images).shape == (1, 7)
    images = torch.zeros(1, 3, 64, 64)
    assert students.mobilenet_v2(num_classes=7).eval()(images).shape == (1, 7)
    assert students.shufflenet_v2(num_classes=7).eval()(images).shape == (1, 7)
    with pytest.raises(ValueError, match=r"mobilenet_v2 takes 3 channels, not 1"):
        students.mobilenet_v2(in_channels=1)


def test_yolo_lite_has_an_output_for_each_anchor():
    images = torch.zeros(1, 3, 64, 96)
    assert students.yolo_lite()(images).shape == (1, 5 * 25, 2, 3)
    anchors = [(1.3, 1.7), (3.2, 4.0), (5.1, 8.1)]
    network = students.yolo_lite(num_classes=4, anchors=anchors, in_channels=1)
    assert network(images[:, :1]).shape == (1, 3 * 9, 2, 3)
    assert [name for name, _ in network.named_children()] == ["backbone", "head"]


def test_yolo_lites_anchors_in_a_recipe():
    for anchors in (3, [[1.3, 2], [3, 4.5], [5, 8]]):
        arguments = {"anchors": anchors}
        assert list(check(students.yolo_lite, "network", arguments)) == []
        network = students.yolo_lite(**fill(students.yolo_lite, arguments, {"num_classes": 20}))
        assert network.head[-1].out_channels == 75
    assert list(check(students.yolo_lite, "network", {"anchors": [[1.3]]}))
    with pytest.raises(ValueError, match=r"anchors: \[\] has no anchor"):
        students.yolo_lite(anchors=[])


def test_unet_labels_every_pixel():
    network = students.unet(num_classes=5, widths=(4, 8, 16), in_channels=1)
    assert network(torch.zeros(2, 1, 12, 20)).shape == (2, 5, 12, 20)
    with pytest.raises(ValueError, match=r"images of 12 x 18: .* halves them 2 times, so 4 must"):
        network(torch.zeros(2, 1, 12, 18))
    with pytest.raises(ValueError, match=r"images of 40 x 48: .* 16 must divide both"):
        students.unet()(torch.zeros(1, 3, 40, 48))
    with pytest.raises(ValueError, match=r"widths: \[8\] should be two or more"):
        students.unet(widths=(8,))
    with pytest.raises(ValueError, match=r"widths: \[8, 0\] should be .*, each 1 or above"):
        students.unet(widths=(8, 0))


def test_unet_brings_the_contracting_paths_outputs_across():
    """With the inner path silenced, the finest contracting block alone reaches the output."""
    network = students.unet(num_classes=1, widths=(1, 2), in_channels=1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for block, channel in ((network.contracting[0], 0), (network.expanding[0], 0)):
            for layer in (block[0], block[2]):
                layer.weight[0, channel, 1, 1] = 1
        network.output.weight.fill_(1)
    images = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(network(images), images)


def test_unet_with_batch_norm():
    network = students.unet(widths=(4, 8), norm=True)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [norm.num_features for norm in norms] == [4, 4, 8, 8, 4, 4]
    biased = [name for name, _ in network.named_parameters() if name.endswith("bias")]
    assert len(biased) == len(norms) + 2  # and the transposed convolution's, and the output's
    assert network(torch.rand(2, 3, 8, 8)).shape == (2, 34, 8, 8)
