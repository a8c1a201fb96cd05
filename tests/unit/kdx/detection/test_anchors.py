import pytest
import torch

from kdx.detection import cluster, mean_best_iou

CENTRES = torch.tensor([[0.5, 0.4], [1.0, 3.0], [3.5, 1.0], [6.0, 6.0]], dtype=torch.float64)


def boxes(n=400, spread=0.05):
    generator = torch.Generator().manual_seed(0)
    noise = 1 + spread * torch.randn(n, 4, 2, generator=generator, dtype=torch.float64)
    return (CENTRES * noise.clamp(0.5, 1.5)).flatten(0, 1)


def test_clusters_are_found_the_smallest_first():
    anchors = cluster(boxes(), 4)
    torch.testing.assert_close(anchors, CENTRES, rtol=0.02, atol=0)
    assert mean_best_iou(boxes(), anchors) > 0.9


def test_the_same_for_the_same_arguments():
    generator = torch.Generator().manual_seed(1)
    sizes = torch.rand(300, 2, generator=generator) * 10 + 0.1
    state = torch.get_rng_state()
    assert torch.equal(cluster(sizes, 5), cluster(sizes, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(cluster(sizes, 5), cluster(sizes, 5, seed=1))


def test_more_anchors_fit_better_and_one_for_each_size_exactly():
    sizes = boxes(spread=0.2)
    fits = [mean_best_iou(sizes, cluster(sizes, k)) for k in (1, 2, 4, 8)]
    assert fits == sorted(fits)
    exact = cluster(CENTRES.repeat(5, 1), 4)
    torch.testing.assert_close(exact, CENTRES)
    assert mean_best_iou(CENTRES, exact) == pytest.approx(1)


def test_one_anchor_is_the_mean_and_the_overlap_is_worked_by_hand():
    sizes = torch.tensor([[1.0, 1.0], [3.0, 1.0]])
    anchors = cluster(sizes, 1)
    torch.testing.assert_close(anchors, torch.tensor([[2.0, 1.0]], dtype=torch.float64))
    assert mean_best_iou(sizes.double(), anchors) == pytest.approx((1 / 2 + 2 / 3) / 2)


@pytest.mark.parametrize("k", [0, 5])
def test_more_anchors_than_sizes(k):
    with pytest.raises(ValueError, match=rf"k: {k} anchors, but the boxes have 4 different siz"):
        cluster(CENTRES.repeat(3, 1), k)
