import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kdx.data.augment import Augment, normalise
from kdx.data.files import FileImages
from kdx.data.loading import EpochBatches, train_loader
from kdx.data.sources import MemoryImages
from kdx.data.views import Views
from kdx.protocols import InputSpec
from tests.contracts import check_scenes

SPEC = InputSpec(3, 8, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
MOVED = Augment(crop=1, flip=True)


def memory(n: int = 40, *, channels: int = 3, size: int = 8) -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    shape = (n, channels, size, size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return MemoryImages(images, torch.arange(n) % 10, "toy train")


def files(folder, n: int = 6) -> FileImages:
    rng = np.random.default_rng(0)
    paths = [str(folder / f"{i}.png") for i in range(n)]
    for i, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + i, 30 - i, 3), dtype=np.uint8)).save(path)
    return FileImages(paths, torch.arange(n) % 2)


def assert_views_are_pure(views: Views):
    """The view of (epoch, index) is the same alone, among others, and in another order."""
    keys = [(epoch, index) for epoch in (0, 3) for index in range(len(views))]
    together, turned = views.__getitems__(keys), views.__getitems__(keys[::-1])
    assert torch.equal(together.images, turned.images.flip(0))
    for row, key in enumerate(keys):
        alone = views.__getitems__([key])
        assert torch.equal(alone.images[0], together.images[row])
    half = len(views)
    assert not torch.equal(together.images[:half], together.images[half:])


def assert_workers_change_nothing(views: Views):
    batches = [EpochBatches(len(views), batch_size=2, seed=1) for _ in range(2)]
    loaders = [train_loader(views, b, workers=n) for b, n in zip(batches, (0, 2), strict=True)]
    for alone, shared in zip(*loaders, strict=True):
        assert all(map(torch.equal, alone, shared))


def test_memory_views_are_pure():
    assert_views_are_pure(Views(memory(), SPEC, seed=1, augment=Augment(crop=2, flip=True)))


@pytest.mark.parametrize(
    "augment", [Augment(crop=2, flip=True), Augment(resized_crop=(0.2, 1.0), flip=True)]
)
def test_file_views_are_pure(augment, tmp_path):
    assert_views_are_pure(Views(files(tmp_path), SPEC, seed=1, augment=augment))


@pytest.mark.parametrize("augment", [None, Augment(crop=2, flip=True)])
def test_one_view_at_a_time(augment, tmp_path):
    check_scenes(memory(4), SPEC, augment)
    check_scenes(files(tmp_path), SPEC, augment)


class Plain:
    """What a plug-in for kdx 0.1 has, and no more: images of one colour, random in training."""

    files = ()

    def __init__(self, labels, dtype=torch.uint8, shape=()):
        self.labels, self.dtype, self.shape = labels, dtype, shape

    def __len__(self):
        return len(self.labels)

    def name(self, index):
        return f"plain[{self.labels[index]}]"

    def subset(self, indices):
        return Plain(self.labels[indices], self.dtype, self.shape)

    def check(self, input, augment):
        if input.channels != 3:
            raise ValueError("plain images are RGB")

    def view_size(self, input, augment):
        return input.hw

    def view(self, index, input, augment):
        value = 10 * int(self.labels[index]) + (int(torch.randint(9, ())) if augment else 0)
        return torch.full(input.shape, value, dtype=self.dtype), self.labels[index].view(self.shape)


def test_a_source_with_single_views_alone():
    source = Plain(torch.arange(5), shape=(1,))
    check_scenes(source, SPEC, None)
    assert_views_are_pure(Views(source, SPEC, seed=1, augment=Augment(flip=True)))
    batch = Views(source, SPEC, seed=1).__getitems__([(0, 3), (0, 1)])
    pixels = torch.tensor([30, 10], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, 8, 8)
    assert torch.equal(batch.images, normalise(pixels, SPEC))
    assert batch.targets.tolist() == [[3], [1]]


def test_normalised_images_stay_as_they_are_and_targets_may_be_single_numbers():
    source = Plain(torch.arange(5), torch.float32)
    check_scenes(source, SPEC, Augment(flip=True))
    images, targets, _ = Views(source, SPEC, seed=1).__getitems__([(0, 3), (0, 1)])
    assert (images.dtype, images.amin((1, 2, 3)).tolist()) == (torch.float32, [30, 10])
    assert targets.tolist() == [3, 1]


class Random(Plain):
    """Draws from each global generator, in evaluation, too."""

    def view(self, index, input, augment):
        drawn = torch.tensor([random.random(), np.random.rand(), float(torch.rand(()))])
        return drawn.view(3, 1, 1).expand(input.shape), self.labels[index]


class OfItsOwn(Plain):
    own = np.random.default_rng(0)

    def view(self, index, input, augment):
        return torch.full(input.shape, self.own.random()), self.labels[index]


class ByBatch(Random):
    def views(self, keys, input, augment, *, seed):
        return torch.rand(len(keys), *input.shape), self.labels[[i for _, i in keys]]


class Counting(Plain):
    calls = 0.0

    def view(self, index, input, augment):
        self.calls += 1
        return torch.full(input.shape, self.calls), self.labels[index]


def test_views_draw_from_every_generator_by_seed_epoch_and_index_alone():
    keys = [[(epoch, index) for index in range(4)] for epoch in (0, 1)]
    found = {}
    for seed, workers in ((0, 0), (1, 0), (0, 2)):
        views = Views(Random(torch.arange(4)), SPEC, seed=seed)
        loader = train_loader(views, keys, workers=workers)
        found[seed, workers] = torch.cat([batch.images[:, :, 0, 0] for batch in loader])
        assert torch.equal(found[seed, workers][4:], views.checked(keys[1]).images[:, :, 0, 0])
    assert torch.equal(found[0, 0], found[0, 2])
    drawn = torch.cat([found[0, 0], found[1, 0]])
    assert len(drawn.unique()) == drawn.numel() == 48


@pytest.mark.parametrize("kind", [OfItsOwn, ByBatch, Counting])
def test_views_that_differ_from_call_to_call(kind):
    views, before = Views(kind(torch.arange(4)), SPEC, seed=0), torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: views are not reproducible"):
        views.checked([(0, 0), (0, 1)])
    assert torch.equal(torch.get_rng_state(), before)


def test_views_of_another_type():
    views = Views(Plain(torch.arange(5), torch.float64), SPEC, seed=1)
    message = r"Plain: views must be all uint8 or .*, not torch\.float64"
    with pytest.raises(ValueError, match=message):
        views.__getitems__([(0, 3)])


def test_seeds_give_different_views():
    keys = [(0, i) for i in range(40)]
    one, two = (Views(memory(), SPEC, seed=s, augment=Augment(crop=2)) for s in (1, 2))
    assert not torch.equal(one.__getitems__(keys).images, two.__getitems__(keys).images)


def test_a_batch_says_what_it_holds():
    batch = Views(memory(), SPEC, seed=0).__getitems__([(0, 13), (0, 4)])
    assert batch.targets.tolist() == [3, 4]
    assert batch.indices.tolist() == [13, 4]
    assert (batch.images.dtype, batch.images.shape) == (torch.float32, (2, 3, 8, 8))


def test_evaluation_in_memory_is_the_image_itself():
    source = memory(channels=1)
    views = Views(source, InputSpec(1, 8, (0.0,), (1.0,)), seed=0)
    images = views.__getitems__([(5, 7)]).images
    torch.testing.assert_close(images[0], source.images[7] / 255)


def test_evaluation_of_files_is_torchvisions(tmp_path):
    source = files(tmp_path)
    spec = InputSpec(3, 14, SPEC.mean, SPEC.std)
    images = Views(source, spec, seed=0).__getitems__([(0, i) for i in range(6)]).images
    steps = [v2.Resize(16), v2.CenterCrop(14), v2.PILToTensor(), v2.ToDtype(torch.float32, True)]
    view = v2.Compose([*steps, v2.Normalize(list(spec.mean), list(spec.std))])
    expected = torch.stack([view(Image.open(path)) for path in source.paths])
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)


def test_augmentation_moves_as_stated():
    """Crops reach every offset and half of the images are flipped, independently."""
    image = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8)
    source = MemoryImages(image.expand(4000, 1, 8, 8), torch.zeros(4000).long(), "toy")
    spec = InputSpec(1, 8, (0.0,), (1 / 255,))
    views = Views(source, spec, seed=0, augment=MOVED)
    images = views.__getitems__([(0, i) for i in range(4000)]).images[:, 0].round().int()
    flipped = images[:, 4, 4] < images[:, 4, 3]
    images[flipped] = images[flipped].flip(-1)
    top, left = ((images[:, 3, 3] - 1) // 8 - 2), ((images[:, 3, 3] - 1) % 8 - 2)
    counts = torch.bincount(top * 6 + left * 2 + flipped, minlength=18)
    assert len(counts) == 18
    assert ((counts - 4000 / 18) ** 2 / (4000 / 18)).sum() < 47  # 0.01 % at 17 degrees


def test_augmentation_leaves_the_source_alone():
    source = memory()
    before = source.images.clone()
    views = Views(source, SPEC, seed=0, augment=Augment(flip=True))
    views.__getitems__([(0, i) for i in range(40)])
    assert torch.equal(source.images, before)


def test_what_does_not_fit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="images of 3 x 9 x 9 do not fit an input of 3 x 8 x 8"):
        Views(memory(size=9), SPEC, seed=0)
    with pytest.raises(ValueError, match="images of 2 x 8 x 8 do not fit"):
        Views(memory(channels=2), SPEC, seed=0)
    with pytest.raises(ValueError, match=r"augment.resized_crop: images in memory take crop, flip"):
        Views(memory(), SPEC, seed=0, augment=Augment(resized_crop=(0.2, 1.0)))
    with pytest.raises(ValueError, match="image files are RGB, and do not fit an input of 1 x 8 x"):
        Views(files(tmp_path), InputSpec(1, 8, (0.5,), (0.5,)), seed=0)
    with pytest.raises(ValueError, match="cropped to squares: an input of 3 x 8 x 16 is not"):
        Views(files(tmp_path), InputSpec(3, (8, 16), SPEC.mean, SPEC.std), seed=0)
    with pytest.raises(ValueError, match=r"augment\.scale, color: images in memory take crop"):
        Views(memory(), SPEC, seed=0, augment=Augment(scale=(0.5, 1), color=0.1))
    with pytest.raises(ValueError, match="str is not an image source: use kdx"):
        Views("images", SPEC, seed=0)  # pyright: ignore[reportArgumentType]


def test_a_damaged_file_is_named(tmp_path):
    source = files(tmp_path)
    (tmp_path / "2.png").write_text("no image")
    with pytest.raises(ValueError, match=r"2\.png: the image cannot be decoded"):
        Views(source, SPEC, seed=0).__getitems__([(0, 2)])
