"""Torch Datasets as data sets: what is taken, what is refused, and that views can be repeated."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset, TensorDataset

from kdx.data import Augment, Views, eval_loader, from_datasets, split, train_loader
from kdx.data.digests import digest_of_images
from kdx.tasks import MultiLabel, Regression


class Pairs:
    """A map-style Dataset of what it is given; attributes by keyword."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        vars(self).update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


class Noisy(Pairs):
    """Images with a number of each global generator in place of the first three pixels."""

    def __getitem__(self, index):
        image, target = self.samples[index]
        drawn = [torch.rand(()).item(), np.random.rand(), random.random()]
        image = image.clone()
        image[0, 0, :3] = torch.tensor(drawn)
        return image, target


def pixels(count=6, channels=1, size=4, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (count, channels, size, size), generator=generator)
    return images.byte() if dtype == torch.uint8 else images.to(dtype) / 255


def pairs(images, **attributes):
    return Pairs([(image, index % 3) for index, image in enumerate(images)], **attributes)


def opened(train, test=None, **options):
    return from_datasets(train, test or train, **options)


def seen(data, keys=((0, 0),), augment=None):
    return Views(data.train, data.input, seed=0, augment=augment).__getitems__(list(keys))


def test_float_images_pass_as_they_are():
    images = pixels(channels=3)
    data = opened(pairs(images, classes=("a", "b", "c")), mean=[0.1, 0.2, 0.3], std=[1, 2, 3])
    assert (data.classes, data.input.shape) == (["a", "b", "c"], (3, 4, 4))
    assert (data.input.mean, data.input.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    batch = seen(data, [(0, 4), (7, 1)])
    assert torch.equal(batch.images, images[[4, 1]])
    assert batch.targets.tolist() == batch.targets.flatten().tolist() == [1, 1]
    assert batch.indices.tolist() == [4, 1]
    assert opened(pairs(images)).input.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("mode", ["tensor", "L", "RGB"])
def test_uint8_and_pil_images_are_normalised(mode):
    channels = 3 if mode == "RGB" else 1
    images = pixels(channels=channels, dtype=torch.uint8)
    made = list(images)
    if mode != "tensor":
        arrays = images.permute(0, 2, 3, 1).numpy()
        made = [Image.fromarray(array.squeeze(-1) if mode == "L" else array) for array in arrays]
    data = opened(pairs(made))
    shares = images.double().transpose(0, 1).flatten(1) / 255
    assert data.input.mean == pytest.approx(shares.mean(1).tolist())
    assert data.input.std == pytest.approx(shares.std(1).tolist())
    given = opened(pairs(made), mean=[0.5] * channels, std=[0.25] * channels)
    expected = (images[:1].float() / 255 - 0.5) / 0.25
    assert torch.allclose(seen(given).images, expected, atol=1e-6)


def test_a_subset_has_the_classes_of_its_dataset():
    whole = pairs(pixels(), classes=["a", "b", "c"])
    assert list(opened(Subset(Subset(whole, range(5)), [0, 1])).classes) == ["a", "b", "c"]


def test_classes_are_names_or_numbers_or_counted():
    images = pixels()
    assert list(opened(pairs(images)).classes) == ["0", "1", "2"]
    assert len(opened(pairs(images), num_classes=7).classes) == 7
    assert opened(pairs(images, classes=["a", "b", "c"]), num_classes=4).classes[0] == "0"
    assert opened(pairs(images, classes=["a", "b", "c"]), num_classes=3).classes[0] == "a"


def test_listed_targets_spare_the_images():
    read = []

    class Counting(Pairs):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    samples = pairs(pixels(300)).samples
    listed = Counting(samples, targets=[target for _, target in samples])
    assert opened(listed, Pairs(samples)).train.labels.tolist() == listed.targets
    assert len(read) == 3  # the first image: twice to compare, and for its type
    changed = Counting(samples, targets=[0] * 300, target_transform=int)
    assert opened(changed).train.labels.tolist() == [target for _, target in samples]
    part = Subset(listed, [5, 3])
    assert opened(part).train.labels.tolist() == [2, 0]


def test_subsets_keep_the_names_and_splits_work():
    data = opened(pairs(pixels(12)))
    part = data.train.subset(torch.tensor([7, 2]))
    assert (part.name(0), part.name(1), len(part)) == ("train[7]", "train[2]", 2)
    splits = split(data, validation=3, limit={"train": 6}, seed=0)
    assert splits.validation is not None
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (6, 3, 12)
    assert splits.train.labels.bincount().tolist() == [2, 2, 2]


def test_views_depend_on_seed_epoch_and_index_alone():
    data = opened(Noisy(pairs(pixels(8)).samples), pairs(pixels(8)))
    views = Views(data.train, data.input, seed=3, augment=Augment())
    keys = [[(epoch, index) for index in range(8)] for epoch in (0, 1)]
    alone = {key: views.__getitems__([key]).images[0] for batch in keys for key in batch}
    for workers in (0, 2):
        order = [batch[::-1] for batch in keys[::-1]]
        for batch, found in zip(order, train_loader(views, order, workers=workers), strict=True):
            assert all(torch.equal(alone[k], v) for k, v in zip(batch, found.images, strict=True))
    drawn = torch.stack([image[0, 0, :3] for image in alone.values()])
    assert len(drawn.unique()) == drawn.numel() == 48  # of each generator, epoch and index
    other = Views(data.train, data.input, seed=4).__getitems__([(0, 0)]).images[0]
    assert not torch.equal(other, alone[0, 0])
    ((evaluated, _, _),) = eval_loader(Views(data.train, data.input, seed=3), batch_size=8)
    assert torch.equal(evaluated[5], alone[0, 5])


def test_global_generators_are_left_as_they_were():
    data = opened(Noisy(pairs(pixels()).samples), pairs(pixels()))
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    before = torch.rand(()), np.random.rand(), random.random()
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(1)
    seen(data)
    digest_of_images(data.train)
    assert (torch.rand(()), np.random.rand(), random.random()) == before


def test_digests_see_images_labels_and_length():
    images = pixels(100)

    def digest(source):
        return digest_of_images(opened(source, num_classes=9).train, labels=True)

    first = digest(Noisy(pairs(images).samples))
    assert digest(Noisy(pairs(images).samples)) == first
    assert digest(Noisy(pairs(pixels(100, seed=1)).samples)) != first
    assert digest(Noisy(pairs(images[:99]).samples)) != first
    relabelled = [(image, 8 if n == 1 else target) for n, (image, target) in
                  enumerate(pairs(images).samples)]  # fmt: skip
    assert digest(Noisy(relabelled)) != first


class Generated(Pairs):
    """Draws from a generator of its own."""

    own = np.random.default_rng(0)

    def __getitem__(self, index):
        image, target = self.samples[index]
        return image + self.own.random(), target


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (iter([]), r"train: list_iterator is empty, or no map-style Dataset"),
        (Pairs([]), r"train: Pairs is empty, or no map-style Dataset"),
        (Pairs([5]), r"train\[0\]: a sample must be \(image, class number\), not int"),
        (Pairs([(torch.zeros(1, 2, 2), 0.5)]), r"not \(torch.float32 \[1, 2, 2\], float\)"),
        (Pairs([(torch.zeros(2, 2), 0)]), r"an image must be a float or uint8 tensor \[C, H, W\]"),
        (Pairs([(torch.zeros(1, 2, 2).int(), 0)]), r"not torch.int32 \[1, 2, 2\]"),
        (Pairs([(Image.new("RGBA", (2, 2)), 0)]), r"mode L or RGB, not Image RGBA"),
        (Generated(pairs(pixels()).samples), r"train: random transforms are not reproducible"),
    ],
)
def test_unfit_datasets_are_refused(train, message):
    with pytest.raises(ValueError, match=message):
        from_datasets(train, TensorDataset(pixels(), torch.arange(6)))


def test_unlike_images_are_refused():
    images = pixels()
    with pytest.raises(ValueError, match=r"test: images are torch.uint8, but those of train are"):
        from_datasets(pairs(images), pairs(pixels(dtype=torch.uint8)))
    data = opened(pairs([*images, torch.zeros(1, 5, 4)]))
    message = r"train\[6\]: the image is \[1, 5, 4\], but others are \[1, 4, 4\]"
    with pytest.raises(ValueError, match=message):
        seen(data, [(0, 6)])
    data = opened(pairs(images, targets=[1] * 6))
    with pytest.raises(ValueError, match=r"train\[0\]: the target is 0, but .* says 1"):
        seen(data)
    with pytest.raises(ValueError, match=r"augment.flip: not for a torch Dataset"):
        seen(opened(pairs(images)), augment=Augment(flip=True))


def test_vectors_for_several_labels():
    targets = [[1, 0, 0], [0, 0, 1], [1, -1, 0], [0, 0, 0]]
    for dataset in (
        Pairs([(image, torch.tensor(t)) for image, t in zip(pixels(4), targets, strict=True)]),
        TensorDataset(pixels(4), torch.tensor(targets, dtype=torch.float64)),
    ):
        data = from_datasets(dataset, Subset(dataset, [2, 1]), task="multilabel")
        assert isinstance(data.task, MultiLabel)
        assert (list(data.classes), data.task.chance) == (["0", "1", "2"], 0.25)
        assert data.train.targets.tolist() == targets
        assert data.train.labels.tolist() == [0, 2, 0, 3]
        data.task.check_source(data.train)
        part = data.train.subset(torch.tensor([3, 2]))
        assert part.targets.tolist() == [targets[3], targets[2]]
        batch = Views(part, data.input, seed=0).__getitems__([(0, 1)])
        assert batch.targets.tolist() == [targets[2]]
        assert data.test.targets.tolist() == [targets[2], targets[1]]
        turned = Pairs([(image, t) for image, t in zip(pixels(4), targets[::-1], strict=True)])
        other = from_datasets(turned, turned, task="multilabel").train
        assert digest_of_images(other) == digest_of_images(data.train)
        assert digest_of_images(other, labels=True) != digest_of_images(data.train, labels=True)


def test_numbers():
    numbers = [0.5, 2.0, -1.0]
    listing = Pairs(list(zip(pixels(3), numbers, strict=True)), targets=numbers)
    data = from_datasets(listing, listing, task="regression")
    assert isinstance(data.task, Regression)
    assert dict(data.task.facts) == {"num_classes": 1, "target_mean": [0.0], "target_std": [1.0]}
    assert data.train.targets.tolist() == [[0.5], [2.0], [-1.0]]
    listing.targets[1] = 3.0
    source = from_datasets(listing, listing, task="regression").train
    with pytest.raises(ValueError, match=r"train\[1\]: the target is \[2.0\], but the .* \[3.0\]"):
        source.view(1, data.input, None)


@pytest.mark.parametrize(
    ("targets", "task", "message"),
    [
        ([0], "ranking", "task: 'ranking' is not one of classification, multilabel"),
        ([0.5], "classification", r"\(image, class number\), .*task=\"multilabel\" or"),
        (["x"], "regression", r"must be \(image, vector of numbers\), not"),
        ([torch.ones(2, 2)], "regression", r"must be \(image, vector of numbers\), not"),
        ([[1.0], [1.0, 2]], "regression", r"train\[1\]: the target is \[2\], but others are \[1\]"),
    ],
)
def test_vectors_that_are_refused(targets, task, message):
    samples = [(pixels(1)[0], target) for target in targets]
    with pytest.raises(ValueError, match=message):
        from_datasets(samples, samples, task=task)
