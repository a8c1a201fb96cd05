import numpy as np
import pytest

from kdx_lab.scenes import Items, compose, load_items
from kdx_lab.scenes.sprite import make_sprite
from kdx_lab.scenes.texture import texture
from kdx_lab.scenes.visible import CLUTTER, RING


@pytest.fixture(scope="module")
def items(root):
    return load_items(root)["train"]


def scenes(items: Items, n: int, *, size=(64, 96), objects=(1, 6), seed=0):
    return [compose(items, size, objects=objects, key=(seed, 0, i)) for i in range(n)]


def test_a_scene_is_a_function_of_its_key(items):
    first, again = scenes(items, 1)[0], scenes(items, 2)[0]
    assert (first.image == again.image).all()
    assert (first.layers == again.layers).all()
    assert first.objects == again.objects
    for key in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        other = compose(items, (64, 96), objects=(1, 6), key=key)
        assert (first.image != other.image).mean() > 0.9


@pytest.mark.parametrize("size", [(32, 32), (50, 81), (200, 64)])
def test_pictures_have_their_size_and_boxes_are_tight(items, size):
    for scene in scenes(items, 20, size=size):
        assert (scene.image.dtype, scene.image.shape) == (np.uint8, (*size, 3))
        assert (scene.layers.dtype, scene.layers.shape) == (np.uint8, size)
        for found in scene.objects:
            rows, columns = np.nonzero(scene.layers == found.number)
            assert found.box == (columns.min(), rows.min(), columns.max(), rows.max())
        known = {0, CLUTTER, RING, *(found.number for found in scene.objects)}
        assert set(np.unique(scene.layers)) <= known


def test_as_many_objects_as_asked_for(items):
    numbers = [max(f.number for f in scene.objects) for scene in scenes(items, 60, objects=(2, 4))]
    assert set(numbers) == {2, 3, 4}
    assert all(not scene.objects for scene in scenes(items, 3, objects=(0, 0)))


def test_all_kinds_of_objects_occur(items):
    found = [f for s in scenes(items, 150, size=(96, 96)) for f in s.objects]
    alone = [f for s in scenes(items, 150, size=(96, 96), objects=(1, 1)) for f in s.objects]
    assert 0.4 < np.mean([f.truncated for f in found]) < 0.7
    assert 0.01 < np.mean([f.difficult for f in found]) < 0.2
    at_border = [{*f.box[:2]} & {0} or {*f.box[2:]} & {95} for f in alone]
    assert all(cut for f, cut in zip(alone, at_border, strict=True) if f.truncated)
    assert len(alone) == 150
    assert 0.2 < np.mean([(s.layers == CLUTTER).any() for s in scenes(items, 100)]) < 0.4


def test_brightness_does_not_tell_objects_from_background(items):
    """An object is now brighter, now darker than what is around it."""
    signs = []
    for scene in scenes(items, 200, objects=(1, 1), size=(96, 96)):
        grey, mask = scene.image.mean(axis=2), scene.layers == 1
        signs.append(grey[mask].mean() > grey[scene.layers == 0].mean())
    assert 0.3 < np.mean(signs) < 0.7


def test_sprites_are_coloured_items_of_the_lengths_promised(items):
    rng = np.random.default_rng(0)
    sprites = [make_sprite(rng, items.draw(rng), shorter=160) for _ in range(200)]
    lengths = [max(sprite.alpha.shape) for sprite in sprites]
    assert 24 <= min(lengths) < 27
    assert 90 < max(lengths) <= 96
    assert np.median(lengths) == pytest.approx((24 * 96) ** 0.5, abs=8)
    for sprite in sprites:
        assert sprite.colours.shape == (*sprite.alpha.shape, 3)
        assert 0 <= sprite.colours.min() <= sprite.colours.max() <= 1
        assert sprite.mask.mean() > 0.6  # blocks, with a rim


def test_half_of_the_sprites_are_mirrored():
    ramp = np.tile(np.arange(100, 128, dtype=np.uint8), (28, 1))
    items, rng = Items(ramp[None], np.array([0])), np.random.default_rng(0)
    sprites = [make_sprite(rng, items.draw(rng), shorter=100) for _ in range(200)]
    rising = [sprite.colours[len(sprite.alpha) // 2].sum(axis=1) for sprite in sprites]
    mirrored = np.mean([row[2] > row[-3] for row in rising])
    assert 0.4 < mirrored < 0.6


@pytest.mark.parametrize("size", [(32, 32), (32, 300), (77, 40)])
def test_backgrounds_lie_in_range_and_differ_in_brightness(size):
    spans = []
    for seed in range(30):
        pixels = texture(np.random.default_rng(seed), size)
        assert pixels.shape == (*size, 3)
        assert -1e-6 <= pixels.min() <= pixels.max() <= 1 + 1e-6
        spans.append(pixels.max(axis=2).max() - pixels.max(axis=2).min())
    assert min(spans) > 0.1
