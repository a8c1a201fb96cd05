"""Whether another order of classes explains a confusion matrix: luck and weakness are none."""

import pytest
import torch

from kdx.models.class_order import HASH, SplitConfusion, another_order

BY_NAME = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9]  # how folders named 0 to 11 are sorted


def judged(classes, images, predict, *, seed=0):
    """Return the order that predictions [N] to labels [N] suggest: `predict(labels, generator)`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(images) % classes
    confusion = SplitConfusion(classes)
    logits = torch.nn.functional.one_hot(predict(labels, generator), classes).float()
    for part in torch.arange(images).split(64):
        confusion(logits[part], labels[part], part)
    return another_order(confusion.counts, confusion.images)


def knows(share, outputs=None):
    """Answer right for a share of the images, else at random, by outputs in another order."""

    def predict(labels, generator):
        known = torch.rand(len(labels), generator=generator) < share
        guessed = torch.randint(int(labels.max()) + 1, labels.shape, generator=generator)
        said = torch.where(known, labels, guessed)
        return said if outputs is None else torch.tensor(outputs)[said]

    return predict


@pytest.mark.parametrize(("share", "certain"), [(1, True), (0.9, True), (0.3, False)])
def test_folders_that_are_sorted_by_name(share, certain):
    found = judged(12, 600, knows(share, BY_NAME))
    assert found.outputs == BY_NAME
    assert found.moved == list(range(2, 12))
    assert found.certain == certain
    expected = share + (1 - share) / 12
    assert found.after == pytest.approx(expected, abs=0.06)
    assert found.before == pytest.approx((1 - share) / 12, abs=0.04)
    assert found.explain([str(n) for n in sorted(map(str, range(12)))]).startswith(
        "by its predictions, its classes are in another order than the data's: "
        "'10' is its output 10, not 2, '11' is its output 11, not 3, '2' is its output 2, not 4"
    )


@pytest.mark.parametrize(
    "outputs", [[1, 0], [1, 2, 0], [*range(1, 40), 0], [0, 1, 2, 5, 4, 3, *range(6, 100)]]
)
def test_other_orders(outputs):
    """Two classes, counted from one, two of a hundred."""
    found = judged(len(outputs), 40 * len(outputs), knows(0.8, outputs))
    assert found.outputs == outputs
    assert found.certain


@pytest.mark.parametrize("share", [0, 0.05, 0.2, 0.5, 1])
@pytest.mark.parametrize("images", [24, 120, 2400])
@pytest.mark.parametrize("seed", range(3))
def test_a_weak_network_is_no_other_order(share, images, seed):
    assert judged(12, images, knows(share), seed=seed) is None


def test_a_network_that_says_few_classes_is_no_other_order():
    assert judged(12, 1200, lambda labels, _: torch.full_like(labels, 5)) is None
    assert judged(12, 1200, lambda labels, _: labels % 3) is None
    assert judged(12, 1200, lambda labels, _: 3 + labels % 3) is None
    assert judged(12, 1200, lambda labels, _: (labels + 1) % 12 // 4 * 4) is None


def test_the_halves_follow_no_order_of_the_data():
    half = torch.arange(9_000) * HASH >> 20 & 1
    for classes in (2, 3, 10, 100):
        shares = half.double().reshape(-1, classes).mean(0)
        assert shares.sub(0.5).abs().max() < 0.25


def test_pixels_of_an_image_count_as_one():
    """Two images do not prove what a million pixels seem to."""
    for images, outputs in ((2, None), (60, [1, 2, 0])):
        confusion = SplitConfusion(3)
        masks = torch.arange(3).repeat(images, 8, 4)  # [N, 8, 12]
        masks[:, 0, 0] = -100
        logits = torch.eye(3)[(masks.clamp(min=0) + 1) % 3].movedim(-1, 1)
        confusion(logits, masks, torch.arange(images))
        assert confusion.counts.sum() == images * 95
        found = another_order(confusion.counts, confusion.images)
        assert (found and found.outputs) == outputs


def test_outputs_that_are_not_for_each_class_are_left_alone():
    confusion = SplitConfusion(3)
    confusion(torch.zeros(2, 5, 4, 4), torch.zeros(2, 3, 6), torch.arange(2))
    assert another_order(confusion.counts, confusion.images) is None
    huge = SplitConfusion(5000)
    huge(torch.zeros(2, 5000), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    assert huge.counts.numel() == 0
    assert another_order(huge.counts, huge.images) is None
