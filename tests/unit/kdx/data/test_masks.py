import pytest
import torch
from PIL import Image
from torch.nn.functional import max_pool2d

from kdx.data import Augment, MaskImages, Views
from kdx.data.masks import UNKNOWN
from kdx.protocols import IGNORED, InputSpec
from tests.contracts import check_scenes
from tests.unit.kdx.data.test_boxes import named
from tests.unit.kdx.data.test_views import assert_views_are_pure

SPEC = InputSpec(3, (48, 64), (0.4,) * 3, (0.2, 0.3, 0.4))
AUGMENTS = [
    None,
    Augment(flip=True),
    Augment(color=0.4),
    Augment(window=(32, 40)),
    Augment(window=100),
    Augment(scale=(0.5, 2.0)),
    Augment(flip=True, color=0.4, scale=(0.3, 2.0), window=(33, 47)),
]
TABLE = torch.full((256,), UNKNOWN)
TABLE[torch.tensor([0, 7, 9])] = torch.tensor([IGNORED, 0, 1])


def drawn(folder, n: int = 4) -> MaskImages:
    """Return blue images (id 7) with a red part (id 9) and a black border (id 0)."""
    paths, masks = [], []
    for i in range(n):
        width, height = 128 - 24 * i, 60 + 30 * i
        part = (20 + 3 * i, 10 + 9 * i, 60, 40 + 12 * i)
        for values, mode, files in (
            (((0, 0, 0), (0, 0, 255), (255, 0, 0)), "RGB", paths),
            ((0, 7, 9), "P" if i % 2 else "L", masks),
        ):
            image = Image.new(mode, (width, height), values[0])
            if mode == "P":
                image.putpalette([value // 3 for value in range(768)])
            image.paste(values[1], (4, 4, width - 4, height - 4))
            image.paste(values[2], part)
            files.append(str(folder / f"{mode[0]}{i}.png"))
            image.save(files[-1])
    return MaskImages(paths, masks, TABLE, torch.zeros(n).long())


def pixels(batch) -> torch.Tensor:
    scale, mean = (torch.tensor(values).view(3, 1, 1) for values in (SPEC.std, SPEC.mean))
    return 255 * (batch.images * scale + mean)


def edges(masks: torch.Tensor) -> torch.Tensor:
    """Return which pixels have another class beside them."""
    masks = masks[:, None].float()
    highest, lowest = max_pool2d(masks, 3, 1, 1), -max_pool2d(-masks, 3, 1, 1)
    return (highest != lowest)[:, 0]


@pytest.mark.parametrize("augment", AUGMENTS, ids=named)
def test_masks_stay_on_what_they_mark(augment, tmp_path):
    views = Views(drawn(tmp_path), SPEC, seed=0, augment=augment)
    batch = views.__getitems__([(epoch, index) for epoch in range(6) for index in range(4)])
    red, blue = pixels(batch)[:, 0], pixels(batch)[:, 2]
    found = torch.full(batch.targets.shape, IGNORED)
    found[(blue - red) > 16] = 0
    found[(red - blue) > 16] = 1
    assert views.shape == batch.images.shape[1:]
    assert batch.targets.shape == (24, *views.shape[1:])
    inside = ~edges(batch.targets)
    assert 0.7 < inside.float().mean() < 1
    assert torch.equal(found[inside], batch.targets[inside])


def test_evaluation_is_the_whole_image(tmp_path):
    source = drawn(tmp_path, 1)
    spec = InputSpec(3, (60, 128), SPEC.mean, SPEC.std)
    target = Views(source, spec, seed=0).__getitems__([(0, 0)]).targets[0]
    assert target.unique(return_counts=True)[1].tolist() == [
        60 * 128 - 52 * 120,
        52 * 120 - 30 * 40,
        30 * 40,
    ]
    assert (target[10:40, 20:60] == 1).all()


def test_beyond_the_image_is_the_mean_and_ignored(tmp_path):
    views = Views(drawn(tmp_path, 1), SPEC, seed=0, augment=Augment(window=(60, 80)))
    tops = set()
    for epoch in range(30):
        batch = views.__getitems__([(epoch, 0)])
        outside = (batch.images[0].abs() < 0.02).all(0)
        assert outside.sum() == 60 * 80 - 48 * 64
        assert (batch.targets[0][outside] == IGNORED).all()
        tops.add(int((~outside).any(1).nonzero()[0]))
    assert min(tops) == 0
    assert max(tops) == 12


def test_views_are_pure(tmp_path):
    assert_views_are_pure(Views(drawn(tmp_path), SPEC, seed=1, augment=AUGMENTS[-1]))


@pytest.mark.parametrize("augment", AUGMENTS, ids=named)
def test_the_contract(augment, tmp_path):
    check_scenes(drawn(tmp_path), SPEC, augment)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Augment(crop=2), r"augment\.crop: images with masks take flip, scale, window, color"),
        (Augment(resized_crop=(0.5, 1), sizes=(64,)), r"augment\.resized_crop, sizes: images with"),
    ],
)
def test_changes_that_masks_cannot_have(augment, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Views(drawn(tmp_path, 1), SPEC, seed=0, augment=augment)


def view_of(source: MaskImages) -> None:
    Views(source, SPEC, seed=0).__getitems__([(0, 0)])


def test_ids_without_a_class_are_named(tmp_path):
    source = drawn(tmp_path, 1)
    mask = Image.open(source.masks[0])
    mask.putpixel((3, 3), 77)
    mask.paste(78, (0, 0, 2, 1))
    mask.save(source.masks[0])
    message = r"L0\.png: unknown ids 77 \(1 pixel\), 78 \(2 pixels\): no class"
    with pytest.raises(ValueError, match=message):
        view_of(source)


def test_a_mask_of_another_size(tmp_path):
    source = drawn(tmp_path, 1)
    Image.new("L", (60, 128)).save(source.masks[0])
    with pytest.raises(ValueError, match=r"L0\.png: size mismatch: mask 128 x 60, image 60 x 128"):
        view_of(source)


def test_a_mask_that_is_none(tmp_path):
    source = drawn(tmp_path, 1)
    for mode in ("RGB", "I;16", "1", "LA"):
        Image.new(mode, (128, 60)).save(source.masks[0])
        message = rf"L0\.png: the mask cannot be decoded: mode {mode} is not of one channel of 8"
        with pytest.raises(ValueError, match=message):
            view_of(source)
    (tmp_path / "L0.png").unlink()
    with pytest.raises(ValueError, match=r"L0\.png: the mask cannot be decoded: No such file"):
        view_of(source)


def test_lists_that_do_not_fit_each_other():
    labels = torch.tensor([0])
    with pytest.raises(ValueError, match="with masks: lengths differ: 1 labels, 1 paths, 2 masks"):
        MaskImages(["a"], ["b", "c"], TABLE, labels)
    with pytest.raises(ValueError, match=r"table: .* must be int64 \[256\], not float32 \[34\]"):
        MaskImages(["a"], ["b"], torch.zeros(34), labels)
    message = r"images with masks: labels must be an int64 tensor \[N\]"
    with pytest.raises(ValueError, match=message):
        MaskImages(["a"], ["b"], TABLE, labels.float())
