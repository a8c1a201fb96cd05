"""mixup and CutMix. n: samples, C: classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from kdx.data.augment import Augment, normalise
from kdx.data.mixing import Mixing
from kdx.data.sources import MemoryImages
from kdx.data.views import Views
from kdx.protocols import InputSpec
from tests.unit.kdx.data.test_views import assert_workers_change_nothing

SPEC = InputSpec(3, 12, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
MIXED, BOXED, BOTH = Mixing(0.4, 0.0, 10), Mixing(0.0, 1.0, 10), Mixing(0.4, 1.0, 10)
KEYS = [(epoch, index) for epoch in (0, 3) for index in range(20)]


def source(n: int = 20) -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, 12, 12), dtype=torch.uint8, generator=generator)
    return MemoryImages(images, torch.arange(n) % 10, "toy train")


def views(mixing: Mixing | None, augment: Augment | None = None, *, seed: int = 1) -> Views:
    return Views(source(), SPEC, seed=seed, augment=augment, mixing=mixing)


@pytest.mark.parametrize("mixing", [MIXED, BOXED, BOTH])
def test_a_mixed_view_is_a_view(mixing):
    """It is the same alone, among others and in another order; and another in another epoch."""
    mixed = views(mixing, Augment(crop=2, flip=True))
    together, turned = mixed.__getitems__(KEYS), mixed.__getitems__(KEYS[::-1])
    assert torch.equal(together.images, turned.images.flip(0))
    assert torch.equal(together.targets, turned.targets.flip(0))
    for row, key in enumerate(KEYS):
        alone = mixed.__getitems__([key])
        assert torch.equal(alone.images[0], together.images[row])
        assert torch.equal(alone.targets[0], together.targets[row])
    assert not torch.equal(together.targets[:20], together.targets[20:])
    assert together.indices.tolist() == [index for _, index in KEYS]


def test_mixup_is_of_the_partners_own_view():
    augment = Augment(crop=2, flip=True)
    batch = views(MIXED, augment).__getitems__(KEYS)
    partners = MIXED.partners(KEYS, 20, seed=1)
    assert all(p[0] == k[0] and p[1] != k[1] for p, k in zip(partners, KEYS, strict=True))
    own, other = (views(None, augment).__getitems__(keys) for keys in (KEYS, partners))
    for row, mix in enumerate(MIXED.draw(KEYS, (12, 12), seed=1)):
        assert mix.box is None
        expected = mix.share * own.images[row].double() + (1 - mix.share) * other.images[row]
        torch.testing.assert_close(batch.images[row].double(), expected, atol=1e-6, rtol=0)
        soft = torch.zeros(10, dtype=torch.float64)
        soft[own.targets[row]] += mix.share
        soft[other.targets[row]] += 1 - mix.share
        assert torch.equal(batch.targets[row], soft.float())


def test_mixing_normalised_images_is_mixing_pixels():
    batch, images = views(MIXED).__getitems__(KEYS[:20]), source().images.double()
    partners = [index for _, index in MIXED.partners(KEYS[:20], 20, seed=1)]
    shares = torch.tensor([m.share for m in MIXED.draw(KEYS[:20], (12, 12), seed=1)])
    shares = shares.double().view(-1, 1, 1, 1)
    pixels = shares * images + (1 - shares) * images[partners]
    torch.testing.assert_close(batch.images, normalise(pixels, SPEC), atol=1e-5, rtol=0)


def test_the_share_of_a_box_is_exactly_that_of_the_pixels():
    batch = views(BOXED).__getitems__(KEYS)
    own = views(None).__getitems__(KEYS)
    other = views(None).__getitems__(BOXED.partners(KEYS, 20, seed=1))
    for row, mix in enumerate(BOXED.draw(KEYS, (12, 12), seed=1)):
        top, left, bottom, right = mix.box
        mask = torch.zeros(12, 12, dtype=torch.bool)
        mask[top:bottom, left:right] = True
        expected = torch.where(mask, other.images[row], own.images[row])
        assert torch.equal(batch.images[row], expected)
        kept = int((~mask).sum()) / 144
        assert mix.share == pytest.approx(kept, abs=1e-15)
        soft = torch.tensor(kept).float() * F.one_hot(own.targets[row], 10)
        soft += torch.tensor(1 - kept).float() * F.one_hot(other.targets[row], 10)
        torch.testing.assert_close(batch.targets[row], soft, atol=1e-7, rtol=0)
        assert batch.targets[row].sum().item() == pytest.approx(1, abs=1e-7)


def beta_moments(a: float) -> tuple[float, float]:
    return 0.5, 1 / (4 * (2 * a + 1))


@pytest.mark.parametrize("a", [0.2, 1.0, 4.0])
def test_shares_are_from_beta(a):
    keys = [(2, index) for index in range(4000)]
    shares = np.array([mix.share for mix in Mixing(a, 0.0, 2).draw(keys, (8, 8), seed=7)])
    mean, variance = beta_moments(a)
    assert shares.mean() == pytest.approx(mean, abs=4 * (variance / 4000) ** 0.5)
    assert shares.var() == pytest.approx(variance, rel=0.08)
    drawn = np.random.default_rng(0).beta(a, a, 4000)
    quantiles = np.linspace(0.05, 0.95, 19)
    gap = np.abs(np.quantile(shares, quantiles) - np.quantile(drawn, quantiles)).max()
    assert gap < 0.05


def test_boxes_have_the_drawn_area_and_centers_all_over_the_image():
    """Without what is cut off: Beta(1, 1) is even, and so are the centers of small boxes."""
    keys = [(0, index) for index in range(4000)]
    mixes = Mixing(0.0, 1.0, 2).draw(keys, (100, 50), seed=3)
    boxes = np.array([mix.box for mix in mixes])
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    inner = (boxes[:, :2] > 0).all(1) & (boxes[:, 2] < 100) & (boxes[:, 3] < 50)
    assert np.abs(height[inner] - 2 * width[inner]).max() <= 2
    small = inner & (height > 0) & (height <= 10)
    centers = (boxes[small, 0] + boxes[small, 2]) / 200
    assert centers.mean() == pytest.approx(0.5, abs=0.1)
    assert (boxes[:, 0] <= boxes[:, 2]).all()
    assert (boxes.min() >= 0, boxes[:, 2].max() <= 100, boxes[:, 3].max() <= 50) == (True,) * 3


def test_of_both_each_is_as_likely():
    keys = [(0, index) for index in range(2000)]
    boxed = [mix.box is not None for mix in BOTH.draw(keys, (8, 8), seed=0)]
    assert np.mean(boxed) == pytest.approx(0.5, abs=0.04)


def test_partners_are_others_all_over_the_split():
    keys = [(epoch, index) for epoch in range(200) for index in range(5)]
    partners = MIXED.partners(keys, 5, seed=0)
    pairs = {(key[1], partner[1]) for key, partner in zip(keys, partners, strict=True)}
    assert pairs == {(i, j) for i in range(5) for j in range(5) if i != j}


def test_partners_of_balanced_samples_are_balanced():
    labels = torch.tensor([0] * 90 + [3] * 7 + [5] * 3)[torch.randperm(100)]
    keys = [(epoch, index) for epoch in range(30) for index in range(100)]
    partners = Mixing(0.4, 0.0, 10, labels=labels).partners(keys, 100, seed=0)
    drawn = labels[[index for _, index in partners]]
    shares = drawn.bincount(minlength=6) / len(drawn)
    assert shares[[0, 3, 5]].tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert {index for _, index in partners} == set(range(100))


def test_workers_change_nothing():
    assert_workers_change_nothing(views(BOTH, Augment(flip=True)))


def test_vectors_are_mixed_as_they_are_but_for_what_is_unknown():
    targets = torch.tensor([[1, 0, -1, 1], [0, 0, 0, 1], [0, 1, 1, -1], [1, 0, 0, 1]]).float()
    images, keys = torch.rand(4, 3, 12, 12), [(0, 3), (1, 5)]
    for mixing in (MIXED, BOXED):
        share = torch.tensor([m.share for m in mixing.draw(keys, (12, 12), seed=0)])[:, None]
        plain = share * targets[:2] + (1 - share) * targets[2:]
        _, mixed = mixing.mix(images, targets, keys, seed=0)
        torch.testing.assert_close(mixed, plain)
        _, mixed = replace(mixing, unknown=-1).mix(images, targets, keys, seed=0)
        plain[0, 2:] = -1
        torch.testing.assert_close(mixed, plain)


def test_targets_that_are_not_one_label_each():
    with pytest.raises(ValueError, match=r"data.cutmix: targets are int64 \[2, 3\], not labels"):
        MIXED.mix(torch.rand(2, 3, 4, 4), torch.ones(2, 3).long(), [(0, 0)], seed=0)
