import pytest
import torch

from kdx.data import Augment, MemoryImages, VectorImages, Views, label_shares
from kdx.data.digests import digest_of_images
from kdx.data.noise import corrupt_labels
from kdx.data.vectors import rarest, tenths
from kdx.protocols import InputSpec
from tests.contracts import check_scenes

SPEC = InputSpec(1, 8, (0.5,), (0.5,))
TARGETS = torch.tensor([[1, 0, -1], [1, 1, 0], [0, 0, 0], [1, 0, 1.0]])


def source(targets=TARGETS):
    pixels = torch.arange(4 * 64).view(4, 1, 8, 8).byte()
    return VectorImages(MemoryImages(pixels, rarest(TARGETS), "toy"), targets)


def test_views_are_the_images_with_their_targets():
    made = source()
    views = Views(made, SPEC, seed=0, augment=Augment(flip=True, crop=1))
    plain = Views(made.images, SPEC, seed=0, augment=Augment(flip=True, crop=1))
    keys = [(0, 2), (1, 0), (0, 3)]
    assert torch.equal(views.__getitems__(keys).images, plain.__getitems__(keys).images)
    assert torch.equal(views.__getitems__(keys).targets, TARGETS[[2, 0, 3]])
    part = made.subset(torch.tensor([3, 1]))
    assert (part.name(0), len(part), part.labels.tolist()) == ("toy[3]", 2, [2, 1])
    assert torch.equal(part.view(1, SPEC, None)[1], TARGETS[1])
    assert torch.equal(part.whole(0)[1], TARGETS[3])


def test_it_keeps_the_contract_of_image_sources():
    pixels = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator()).byte()
    made = VectorImages(MemoryImages(pixels, rarest(TARGETS), "toy"), TARGETS)
    check_scenes(made, InputSpec(3, 8, (0.5,) * 3, (0.5,) * 3), None)


def test_digests_depend_on_the_targets():
    one, other = source(), source(TARGETS.clone().index_fill_(0, torch.tensor([2]), 1))
    assert digest_of_images(one) == digest_of_images(other)
    assert digest_of_images(one, labels=True) != digest_of_images(other, labels=True)


def test_what_splits_are_stratified_by():
    assert rarest(TARGETS).tolist() == [0, 1, 3, 2]
    numbers = torch.randperm(40, generator=torch.Generator().manual_seed(0)).float()[:, None]
    assert tenths(numbers).tolist() == (numbers[:, 0] // 4).tolist()


def test_shares_are_of_the_known_labels():
    assert label_shares(source()) == pytest.approx([3 / 4, 1 / 4, 1 / 3])
    assert label_shares(source().images) is None


def test_refusals():
    message = r"must be a float32 tensor \[4, K\], not float64 \[4, 3\]"
    with pytest.raises(ValueError, match=message):
        source(TARGETS.double())
    with pytest.raises(ValueError, match=r"float32 \[3, 3\]"):
        source(TARGETS[:3])
    message = r"label_noise: 0.5 needs one label for each image, which Vec"
    with pytest.raises(ValueError, match=message):
        corrupt_labels(source(), torch.arange(4), share=0.5, classes=3, seed=0)
