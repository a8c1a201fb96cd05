import pytest
import torch
from torchvision.transforms import v2

from kdx.models.students import smallnet
from kdx.models.teacher import Teacher, adapt
from kdx.protocols import InputSpec

GREY = InputSpec(1, 32, (0.3,), (0.4,))
REPEATED = InputSpec(3, 32, (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
COLOUR = InputSpec(3, 32, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
IMAGENET = InputSpec(3, 48, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SMALL = InputSpec(3, 20, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def seen_by(pixels, spec):
    """What torchvision makes of pixels [B, c, S, S] in [0, 1] for a network of `spec`."""
    pixels = pixels.expand(-1, spec.channels, -1, -1)
    if pixels.shape[2] != spec.size:
        pixels = v2.functional.resize(pixels, [spec.size, spec.size], antialias=True)
    return v2.functional.normalize(pixels, list(spec.mean), list(spec.std))


@pytest.mark.parametrize(
    ("given", "own"),
    [(GREY, IMAGENET), (GREY, COLOUR), (REPEATED, IMAGENET), (COLOUR, SMALL), (COLOUR, REPEATED)],
)
def test_the_teacher_sees_what_it_was_trained_with(given, own):
    torch.manual_seed(0)
    pixels = torch.rand(3, given.channels, given.size, given.size)
    batch = v2.functional.normalize(pixels, list(given.mean), list(given.std))
    torch.testing.assert_close(adapt(batch, given, own), seen_by(pixels, own), atol=2e-6, rtol=0)


def test_only_the_size_changes():
    torch.manual_seed(0)
    larger = InputSpec(3, 40, COLOUR.mean, COLOUR.std)
    batch = torch.randn(2, 3, 32, 32)
    expected = v2.functional.resize(batch, [40, 40], antialias=True)
    torch.testing.assert_close(adapt(batch, COLOUR, larger), expected)


def test_the_same_input_is_the_same_tensor():
    batch = torch.randn(2, 3, 32, 32)
    assert adapt(batch, COLOUR, COLOUR) is batch


def test_it_is_frozen_and_answers_without_gradients():
    network = smallnet(in_channels=1)
    teacher = Teacher(network.train(), own=GREY, given=GREY)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    images = torch.randn(2, 1, 32, 32, requires_grad=True)
    outputs = teacher(images)
    assert not outputs.logits.requires_grad
    assert torch.equal(outputs.logits, network(images))
    assert network.bn1.num_batches_tracked == 0
    assert teacher.to(torch.device("cpu")) is teacher


def test_a_teacher_in_train_mode_is_a_mistake():
    teacher = Teacher(smallnet(in_channels=1), own=GREY, given=GREY)
    teacher.module.train()
    with pytest.raises(AssertionError, match="put the teacher into train mode"):
        teacher(torch.zeros(2, 1, 32, 32))
