"""A recipe's list of augmentations."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from kdx.data.augment import Augment
from kdx.data.counter import Draw, seeded
from kdx.data.pipeline import Pipeline
from kdx.data.views import Views
from kdx.protocols import InputSpec
from kdx.recipe import RecipeError
from kdx.recipe.arguments import Component
from kdx.recipe.registry import table
from tests.unit.kdx.data.test_views import (
    SPEC,
    Plain,
    assert_views_are_pure,
    assert_workers_change_nothing,
    files,
    memory,
)

NEEDED = {
    "GaussianBlur": {"kernel_size": 3},
    "Pad": {"padding": 2},
    "RandomAdjustSharpness": {"sharpness_factor": 2.0},
    "RandomAffine": {"degrees": 20},
    "RandomPosterize": {"bits": 3},
    "RandomResize": {"min_size": 20, "max_size": 40},
    "RandomRotation": {"degrees": 20},
    "RandomShortestSize": {"min_size": [20, 30]},
    "RandomSolarize": {"threshold": 100},
    "ScaleJitter": {"target_size": [24, 24]},
    "Grayscale": {"num_output_channels": 3},
}


def part(use: str, factory=None, **arguments) -> Component:
    factory = factory or table("augmentation")[use]
    return Component("augmentation", use, arguments, factory, "a.yaml:2", "data.augment.0")


def listed(*parts: Component) -> Augment:
    return Augment(then=list(parts))


MODERN = listed(
    part("RandomResizedCrop", scale=[0.35, 1]),
    part("RandAugment", num_ops=2),
    part("RandomErasing", p=0.5, inplace=True),
)


def test_it_is_torchvisions_own_seeded_by_view():
    source, key = memory(), (4, 7)
    batch = Views(source, SPEC, seed=5, augment=MODERN).__getitems__([key])
    with seeded(5, *key, Draw.LIST):
        image = v2.RandomResizedCrop([8, 8], scale=(0.35, 1.0))(source.images[7])
        image = v2.RandomErasing(p=0.5)(v2.RandAugment(num_ops=2)(image))
    plain = Views(source.subset(torch.tensor([7])), SPEC, seed=0)
    plain.source.images = image[None]
    assert torch.equal(batch.images, plain.__getitems__([(0, 0)]).images)
    assert batch.targets.tolist() == [7]


def test_listed_views_are_pure(tmp_path):
    for source in (memory(10), memory(10, channels=1), files(tmp_path)):
        before = source.images.clone() if hasattr(source, "images") else None
        assert_views_are_pure(Views(source, SPEC, seed=1, augment=MODERN))
        assert before is None or torch.equal(source.images, before)


def test_workers_change_nothing():
    assert_workers_change_nothing(Views(memory(20), SPEC, seed=1, augment=MODERN))


@pytest.mark.parametrize("name", sorted(table("augmentation").keys() - {"RandomIoUCrop"}))
def test_every_entry_makes_a_view(name):
    spec = InputSpec(3, 32, (0.5,) * 3, (0.2,) * 3)
    pipeline = Pipeline(listed(part(name, **NEEDED.get(name, {}))), spec.hw)
    image = memory(1, size=32).images[0]
    made = [pipeline.fit(pipeline.applied([image], (0, 0), seed=0)[0]) for _ in range(2)]
    assert (made[0].shape, made[0].dtype) == ((3, 32, 32), torch.uint8)
    assert torch.equal(*made)


def test_files_are_seen_whole_and_fitted_in_the_end(tmp_path):
    """Images of 30 x 20 and 29 x 21: as in evaluation, unless the list has cropped them."""
    source, input = files(tmp_path), InputSpec(3, 20, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    keys = [(0, index) for index in range(6)]
    nothing = listed(part("RandomHorizontalFlip", p=0.0))
    listed_views = Views(source, input, seed=0, augment=nothing).__getitems__(keys).images
    evaluated = Views(source, input, seed=0).__getitems__(keys).images
    assert (listed_views - evaluated).abs().max() <= 1  # Pillow's rounding and torch's
    cropped = listed(part("CenterCrop", size=[20, 28]))
    seen = Views(source, input, seed=0, augment=cropped).__getitems__([(0, 0)]).images[0]
    pixels = torch.from_numpy(np.array(Image.open(source.paths[0]))).permute(2, 0, 1)
    torch.testing.assert_close(seen, pixels[:, :, 5:25].float())


def test_files_of_the_views_size_are_seen_as_they_are_with_a_list_and_without(tmp_path):
    source = files(tmp_path)
    Image.open(source.paths[0]).crop((0, 0, 20, 20)).save(source.paths[0])
    input = InputSpec(3, 20, (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
    pixels = torch.from_numpy(np.array(Image.open(source.paths[0]))).permute(2, 0, 1).float()
    nothing = listed(part("RandomHorizontalFlip", p=0.0))
    for augment in (None, nothing):
        (seen,) = Views(source, input, seed=0, augment=augment).__getitems__([(0, 0)]).images
        torch.testing.assert_close(seen, pixels)


class Once:
    """A plug-in's augmentation."""

    def __init__(self, made):
        self.made = made

    def __call__(self, image):
        if isinstance(self.made, Exception):
            raise self.made
        return self.made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (torch.zeros(3, 8, 8), r"returned float32 \[3, 8, 8\], not a uint8 tensor \[3, H, W\]"),
        (torch.zeros(1, 8, 8, dtype=torch.uint8), r"returned uint8 \[1, 8, 8\], not a uint8"),
        (torch.zeros(3, 0, 8, dtype=torch.uint8), r"returned uint8 \[3, 0, 8\], not a uint8"),
        (None, "returned NoneType, not a uint8"),
        (KeyError("a"), "KeyError: 'a'"),
    ],
)
def test_what_an_augmentation_does_wrong(made, message):
    pipeline = Pipeline(listed(part("my.once", lambda: Once(made))), SPEC.hw)
    with pytest.raises(ValueError, match=rf"^a.yaml:2: data.augment.0: 'my.once': {message}"):
        pipeline.applied([memory(1).images[0]], (0, 0), seed=0)


@pytest.mark.parametrize(
    ("use", "arguments", "message"),
    [
        ("RandAugment", {"magnitude": -1}, "magnitude: -1 must be from 0 to 30"),
        ("RandAugment", {"magnitude": 31}, "magnitude: 31 must be from 0 to 30"),
        ("RandAugment", {"magnitude": 4, "num_magnitude_bins": 4}, "magnitude: 4 .* 0 to 3"),
        ("RandomPhotometricDistort", {"p": 1.5}, r"p: 1\.5 must be from 0 to 1"),
        ("AugMix", {"mixture_width": 0}, "mixture_width: 0 must be 1 or more"),
    ],
)
def test_numbers_that_torchvision_takes_and_misuses(use, arguments, message):
    right = part("RandomErasing"), part("RandAugment", magnitude=30)
    with pytest.raises(RecipeError) as raised:
        Pipeline(listed(*right, part(use, **arguments), part("RandAugment", magnitude=99)), SPEC.hw)
    first, second = str(raised.value).splitlines()
    assert re.match(f"a.yaml:2: data.augment.0: '{use}': {message}$", first)
    assert "'RandAugment': magnitude: 99 must be" in second


@pytest.mark.filterwarnings("ignore:Scale and ratio")
@pytest.mark.parametrize(
    ("use", "arguments", "message"),
    [
        ("RandomErasing", {"p": 0.3, "scale": [2, 1]}, "RuntimeError: uniform_ expects"),
        ("AutoAugment", {"interpolation": 31}, "KeyError: 31"),
        ("RandomAdjustSharpness", {"p": 0.4, "sharpness_factor": -1}, r"sharpness_factor \(-1"),
        ("RandomPhotometricDistort", {"brightness": [-0.1, 1]}, "brightness_factor"),
        ("RandomChoice", {"made": [1]}, "IndexError: of one view"),
    ],
)
def test_arguments_that_fail_in_some_views_only_fail_before_a_run(use, arguments, message):
    """The two views that are compared are right: of the trials some are not."""

    def rare(made):
        return lambda image: image if torch.rand(()) < 0.8 else Once(IndexError("of one view"))(0)

    factory = rare if use == "RandomChoice" else None
    views = Views(memory(4), SPEC, seed=2, augment=listed(part(use, factory, **arguments)))
    with pytest.raises(ValueError, match=rf"^a.yaml:2: data.augment.0: '{use}': .*{message}"):
        views.checked([(0, 0)])


def test_a_view_that_fails_names_its_image():
    views = Views(memory(4), SPEC, seed=0, augment=listed(part("RandomCrop", size=[9, 9])))
    with pytest.raises(ValueError, match=r"'RandomCrop': .*crop size .*, of .*\[3\]$"):
        views.__getitems__([(0, 3)])


def test_normalised_images_refuse_the_list():
    views = Views(Plain(torch.arange(5), torch.float32), SPEC, seed=0, augment=MODERN)
    with pytest.raises(ValueError, match=r"for uint8 images, and those of Plain are torch\.float"):
        views.__getitems__([(0, 0)])
    plain = Views(Plain(torch.arange(5)), SPEC, seed=0, augment=MODERN)
    assert plain.__getitems__([(0, 0), (0, 3)]).targets.tolist() == [0, 3]


def test_keys_beside_the_list():
    with pytest.raises(ValueError, match="use the list or flip, not both: in the list they are"):
        Augment(flip=True, then=MODERN.then)


def test_what_works_in_place_leaves_the_data_set_as_it_is():
    source = memory(4)
    before = source.images.clone()
    erased = listed(part("RandomErasing", p=1.0, inplace=True))
    first, plain = (
        Views(source, SPEC, seed=0, augment=each).__getitems__([(0, 0), (0, 1)]).images
        for each in (erased, None)
    )
    assert torch.equal(source.images, before)
    assert not torch.equal(first, plain)
