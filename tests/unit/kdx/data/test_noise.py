from itertools import pairwise
from math import sqrt

import pytest
import torch

from kdx.data import BoxImages, FileImages, MemoryImages, corrupt_labels, split
from kdx.protocols import ImageData, InputSpec

N, CLASSES = 20_000, 10
LABELS = torch.arange(N) % CLASSES
NUMBERS = torch.arange(N)


def files(labels=LABELS):
    return FileImages([f"{i}.png" for i in range(len(labels))], labels)


def noisy(share, *, seed=0, source=None, numbers=NUMBERS):
    part, note = corrupt_labels(source or files(), numbers, share=share, classes=CLASSES, seed=seed)
    return part, note


def wrong(part):
    return part.labels != LABELS


def spread(share, n=N):
    """Four standard deviations of a counted share."""
    return 4 * sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_the_shares_that_are_drawn_and_wrong(share):
    part, note = noisy(share)
    changed = int(wrong(part).sum())
    expected = share * (1 - 1 / CLASSES)
    assert changed / N == pytest.approx(expected, abs=spread(expected))
    words = note.replace(",", "").split()
    assert int(words[2]) / N == pytest.approx(share, abs=spread(share))
    assert note.endswith(f"random (label_noise {share:g}): {changed:,} of them are wrong now")


def test_every_class_is_drawn_as_often_whatever_the_label_was():
    part, _ = noisy(1.0)
    table = torch.bincount(LABELS * CLASSES + part.labels, minlength=CLASSES**2)
    assert ((table / (N / CLASSES) - 0.1).abs() < spread(0.1, N // CLASSES)).all()


def test_a_larger_share_corrupts_the_same_samples_alike_and_more():
    parts = [noisy(share)[0] for share in (0.0, 0.2, 0.5, 0.8)]
    assert torch.equal(parts[0].labels, LABELS)
    for less, more in pairwise(parts):
        changed = wrong(less)
        assert torch.equal(more.labels[changed], less.labels[changed])
        assert wrong(more).sum() > changed.sum()


def test_the_seed_draws():
    one, again, two = (noisy(0.5, seed=seed)[0].labels for seed in (1, 1, 2))
    assert torch.equal(one, again)
    agree = (one == two).double().mean()  # both clean, or the same by chance
    expected = 0.25 + 0.75 / CLASSES
    assert agree == pytest.approx(expected, abs=spread(expected))


def test_a_labels_noise_is_that_of_its_place_in_the_whole_set():
    whole, _ = noisy(0.5)
    some = torch.tensor([19_999, 3, 17, 4_000])
    part, _ = noisy(0.5, source=files(LABELS[some]), numbers=some)
    assert torch.equal(part.labels, whole.labels[some])


def test_the_source_is_left_as_it_is_and_shared():
    images = torch.zeros(N, 1, 1, 1, dtype=torch.uint8)
    source = MemoryImages(images, LABELS.clone(), "toy train", NUMBERS + 7)
    part, _ = noisy(0.5, source=source)
    assert torch.equal(source.labels, LABELS)
    assert not torch.equal(part.labels, LABELS)
    assert part.images is images
    assert part.name(3) == "toy train[10]"
    paths = files()
    assert noisy(0.5, source=paths)[0].paths is paths.paths


def test_neither_limit_nor_validation_moves_the_noise():
    whole, _ = noisy(0.5)
    data = ImageData(files(), files(), "abcdefghij", InputSpec(3, 8, (0.5,) * 3, (0.5,) * 3))
    for validation, limit in ((None, 500), (0.25, None), (3_000, 500)):
        splits = split(data, validation=validation, limit=limit, seed=0)
        part, _ = noisy(0.5, source=splits.train, numbers=splits.numbers)
        places = [int(path.removesuffix(".png")) for path in part.paths]
        assert torch.equal(part.labels, whole.labels[places])


def test_images_with_boxes_have_no_one_label():
    scenes = BoxImages(["a.jpg"], [torch.zeros(1, 6)], torch.tensor([0]))
    message = r"data\.label_noise: 0\.25 needs one label for each image, which BoxImages"
    with pytest.raises(ValueError, match=message):
        noisy(0.25, source=scenes, numbers=torch.tensor([0]))
