"""A recipe's list of augmentations, for images with boxes and with masks."""

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.tv_tensors import Mask

from kdx.data import Augment, Views
from kdx.data.augment import PIXELS_ALONE
from kdx.data.pipeline import Pipeline
from kdx.protocols import IGNORED, InputSpec
from kdx.recipe.errors import RecipeError
from tests.unit.kdx.data import test_boxes, test_masks
from tests.unit.kdx.data.test_boxes import extent
from tests.unit.kdx.data.test_pipeline import listed, part
from tests.unit.kdx.data.test_views import assert_views_are_pure, assert_workers_change_nothing

SPEC = test_boxes.SPEC
MODERN = listed(
    part("RandomZoomOut", side_range=[1, 2]),
    part("RandomHorizontalFlip"),
    part("ColorJitter", brightness=0.3),
    part("RandomResizedCrop", scale=[0.5, 1]),
)
LISTS = {  # with how many pixels of a view a box may be off what is drawn
    "modern": (MODERN, 1),
    "turned": (listed(part("RandomAffine", degrees=20, translate=[0.2, 0.1])), 1.5),
    "bent": (listed(part("RandomPerspective", p=1.0), part("RandomVerticalFlip")), 1.5),
    "ssd": (listed(part("RandomIoUCrop"), part("Resize")), 1),
}


def sources(folder):
    (folder / "masks").mkdir()
    return test_boxes.drawn(folder), test_masks.drawn(folder / "masks")


def test_it_is_torchvisions_own_and_flips_boxes(tmp_path):
    """Of an image of 120 x 70, letterboxed to 64 x 37 below 13 rows: round(70 * 64 / 120) = 37."""
    source = test_boxes.drawn(tmp_path, 1)
    flip = listed(part("RandomHorizontalFlip", p=1.0))
    images, targets, _ = Views(source, SPEC, seed=0, augment=flip).__getitems__([(0, 0)])
    plain = Views(source, SPEC, seed=0).__getitems__([(0, 0)])
    assert torch.equal(images, plain.images.flip(3))
    mirrored = plain.targets.clone()
    mirrored[..., 1] = 1 - mirrored[..., 1]
    torch.testing.assert_close(targets, mirrored)


@pytest.mark.parametrize("name", LISTS)
def test_boxes_stay_on_what_they_are_around(name, tmp_path):
    augment, off = LISTS[name]
    views, shown = Views(test_boxes.drawn(tmp_path), SPEC, seed=0, augment=augment), 0
    for key in [(epoch, index) for epoch in range(4) for index in range(6)]:
        images, targets, _ = views.__getitems__([key])
        for number, x, y, w, h, difficult in targets[0].tolist():
            edges = torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2]) * 64
            assert (extent(images[0]) - edges).abs().max() < off
            assert (number, difficult) == (key[1] % 3, key[1] % 2)
            shown += 1
    assert shown > 12


@pytest.mark.parametrize("name", ["modern", "turned", "bent"])
def test_masks_stay_on_their_image(name, tmp_path):
    """Images are red where the class is 1; what the list fills in is black, and ignored."""
    spec = test_masks.SPEC
    views = Views(test_masks.drawn(tmp_path), spec, seed=0, augment=LISTS[name][0])
    for key in [(epoch, index) for epoch in range(4) for index in range(4)]:
        images, targets, _ = views.__getitems__([key])
        pixels = images[0] * torch.tensor(spec.std).view(3, 1, 1) + 0.4
        known, red = targets[0] != IGNORED, pixels[0] > pixels[2]
        assert (red[known] == (targets[0] == 1)[known]).float().mean() > 0.98
        assert (pixels.amax(0)[~known] < 0.5).float().mean() > 0.9
        assert known.any()


def test_masks_go_by_the_centres_of_pixels(tmp_path):
    """Of 9 columns the middle ones of three are seen; torchvision's own masks see 0, 3, 6."""
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    mask = Image.new("L", (9, 9), 7)
    for column in (1, 4, 7):
        mask.paste(9, (column, 0, column + 1, 9))
    mask.save(tmp_path / "m.png")
    image, mask = ([str(tmp_path / f"{name}.png")] for name in "am")
    source = test_masks.MaskImages(image, mask, test_masks.TABLE, torch.tensor([0]))
    spec = InputSpec(3, 3, SPEC.mean, SPEC.std)
    for each in (part("Resize"), part("RandomResizedCrop", scale=[1, 1], ratio=[1, 1])):
        views = Views(source, spec, seed=0, augment=listed(each))
        assert views.__getitems__([(0, 0)]).targets.tolist() == [[[1] * 3] * 3]


@pytest.mark.parametrize("fill", [1, [124, 116, 104]])
def test_what_is_filled_in_is_ignored(fill, tmp_path):
    """60 x 128 pixels with 64 around: of 3 x 3 parts of a view the outer ones are filled."""
    source = test_masks.drawn(tmp_path, 1)
    views = Views(source, test_masks.SPEC, seed=0,
                  augment=listed(part("Pad", padding=[128, 60], fill=fill)))  # fmt: skip
    target = views.__getitems__([(0, 0)]).targets[0]
    inner = torch.zeros(48, 64, dtype=torch.bool)
    inner[16:32, 21:43] = True
    assert (target[~inner] == IGNORED).all()
    assert (target[18:30, 24:40] != IGNORED).all()


def test_boxes_of_which_a_quarter_is_not_seen_are_left_out(tmp_path):
    """The box is from 10 to 40; of it 30, 10 and 6 pixels are seen: 1, 1/3 and 1/5."""
    source = test_boxes.drawn(tmp_path, 1)
    for width, count in ((50, 1), (20, 1), (16, 0)):
        crop = part("my.crop", lambda width=width: lambda *sample: [
            v2.functional.crop(each, 0, 0, 70, width) for each in sample])  # fmt: skip
        back = part("Pad", padding=[0, 0, 120 - width, 0])  # what was cut off does not come back
        views = Views(source, SPEC, seed=0, augment=listed(crop, back))
        targets = views.__getitems__([(0, 0)]).targets
        assert targets.shape[1] == count
        if count:
            right = min(width, 40) / 120
            assert float(targets[0, 0, 1] + targets[0, 0, 3] / 2) == pytest.approx(right)


def test_images_without_boxes(tmp_path):
    source = test_boxes.drawn(tmp_path, 2)
    source.boxes = [torch.empty(0, 6)] * 2
    for augment, _ in LISTS.values():
        batch = Views(source, SPEC, seed=0, augment=augment).__getitems__([(0, 0), (0, 1)])
        assert batch.targets.shape == (2, 0, 6)


def test_views_are_pure_whatever_the_workers(tmp_path):
    for source, spec in zip(sources(tmp_path), (SPEC, test_masks.SPEC), strict=True):
        views = Views(source, spec, seed=1, augment=MODERN)
        assert_views_are_pure(views)
        assert_workers_change_nothing(views)


def test_a_window_is_the_size_of_a_view(tmp_path):
    crop = listed(part("RandomCrop", pad_if_needed=True))
    augment = Augment(window=(33, 47), then=crop.then)
    views = Views(test_masks.drawn(tmp_path), test_masks.SPEC, seed=0, augment=augment)
    batch = views.__getitems__([(0, i) for i in range(4)])
    assert batch.images.shape == (4, 3, 33, 47)
    assert batch.targets.shape == (4, 33, 47)


@pytest.mark.parametrize("use", sorted(PIXELS_ALONE))
def test_what_would_leave_boxes_and_masks_behind(use, tmp_path):
    for source, kind in zip(sources(tmp_path), ("boxes", "masks"), strict=True):
        message = rf"augment\.0: '{use}': for images with a class, not images with {kind}: use "
        with pytest.raises(RecipeError, match=message):
            Views(source, SPEC, seed=0, augment=listed(part(use)))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda image, *boxes: image, "returned an image, not an image and BoundingBoxes and"),
        (lambda image, a, b: (image, a, Mask(image)), "an image and BoundingBoxes and Mask, not"),
        (lambda image, *boxes: (image[:, 1:], *boxes), r"parts of different sizes: \[\[69, 120\]"),
        (v2.SanitizeBoundingBoxes(min_area=1e9, labels_getter=None), "another number of boxes"),
        (lambda image: image, "takes 1 positional argument but 3 were given"),
    ],
)
def test_what_a_plug_in_does_wrong(made, message, tmp_path):
    sample = test_boxes.drawn(tmp_path, 1).located(0)
    pipeline = Pipeline(listed(part("my.own", lambda: made)), SPEC.hw)
    with pytest.raises(ValueError, match=rf"^a.yaml:2: data.augment.0: 'my.own': .*{message}"):
        pipeline.applied(sample, (0, 0), seed=0)
