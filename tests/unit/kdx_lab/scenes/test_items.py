import numpy as np
import pytest
import torch

from kdx_lab.scenes import Items, load_items
from tests.unit.kdx.data.sets.test_fashion_mnist import idx, labels


def single(pixels: np.ndarray) -> Items:
    return Items(pixels[None].astype(np.uint8), np.array([3]))


def test_the_splits_share_no_item(root):
    splits = load_items(root)
    assert {name: len(items.labels) for name, items in splits.items()} == {
        "train": 50, "val": 10, "test": 20,
    }  # fmt: skip
    seen = [image.tobytes() for items in splits.values() for image in items.images]
    assert len(set(seen)) == 80
    assert np.bincount(splits["val"].labels).tolist() == [1] * 10


def test_an_item_is_cut_out_without_holes_and_as_bright_as_can_be():
    pixels = np.zeros((28, 28))
    pixels[4:12, 6:16] = 100
    pixels[6:9, 8:11] = 0  # a hole
    pixels[10:12, 12:14] = 0  # a bay, open to below
    pixels[0, 0] = 15  # noise of the background
    item = single(pixels).draw(np.random.default_rng(0))
    expected = np.ones((8, 10), bool)
    expected[6:, 6:8] = False
    assert (item.mask == expected).all()
    assert (item.shade[expected] == (pixels[4:12, 6:16][expected] == 100)).all()
    assert not item.shade[~expected].any()
    assert item.label == 3


def test_all_items_are_drawn(root):
    rng = np.random.default_rng(0)
    val = load_items(root)["val"]
    drawn = [val.draw(rng).label for _ in range(200)]
    assert np.bincount(drawn, minlength=10).min() >= 8


def test_items_that_cannot_be_seen_are_left_out(tmp_path):
    images = torch.zeros(12, 28, 28, dtype=torch.uint8)
    images[1::2, 2:26, 2:26] = 200
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels(12)))
    splits = load_items(str(tmp_path))
    assert len(splits["train"].labels) + len(splits["val"].labels) == 6
    assert splits["test"].labels.tolist() == [1, 3, 5, 7, 9, 1]
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images * 0))
    with pytest.raises(ValueError, match=r"fashion_mnist test: all 12 images for test are empty"):
        load_items(str(tmp_path))
