from collections import Counter

import torch

from kdx.data import resized, side

SIZES = (96, 128, 160)


def test_without_sizes_nothing_changes():
    images = torch.rand(2, 3, 8, 8)
    assert side((), seed=0, epoch=0, step=0) is None
    assert resized(images, None) is images
    assert resized(images, 8) is images


def test_a_size_holds_for_ten_steps_and_depends_on_seed_epoch_and_step_alone():
    chosen = [side(SIZES, seed=1, epoch=2, step=step) for step in range(3000)]
    assert chosen == [side(SIZES, seed=1, epoch=2, step=step) for step in range(3000)]
    assert all(len(set(chosen[i : i + 10])) == 1 for i in range(0, 3000, 10))
    counts = Counter(chosen[::10])
    assert sorted(counts) == list(SIZES)
    assert min(counts.values()) > 70  # of 300, 100 expected
    assert chosen != [side(SIZES, seed=1, epoch=3, step=step) for step in range(3000)]
    assert chosen != [side(SIZES, seed=2, epoch=2, step=step) for step in range(3000)]


def test_images_are_averaged_when_they_shrink():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    halved = resized(images, 2)
    assert halved.shape == (1, 1, 2, 2)
    torch.testing.assert_close(halved.mean(), images.mean())
    assert halved[0, 0, 0, 0] < halved[0, 0, 0, 1] < halved[0, 0, 1, 0]
