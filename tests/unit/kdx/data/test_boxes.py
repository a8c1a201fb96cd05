import pickle

import pytest
import torch
from PIL import Image

from kdx.data import Augment, BoxImages, Views
from kdx.data.boxes import largest_classes
from kdx.protocols import InputSpec
from tests.contracts import check_scenes
from tests.unit.kdx.data.test_views import assert_views_are_pure, assert_workers_change_nothing

SPEC = InputSpec(3, 64, (0.0,) * 3, (1.0,) * 3)
AUGMENTS = [
    None,
    Augment(flip=True),
    Augment(color=0.4),
    Augment(scale=(0.4, 1.0)),
    Augment(scale=(1.0, 2.5)),
    Augment(flip=True, color=0.4, scale=(0.3, 2.0)),
]


def named(augment: Augment | None) -> str:
    return "+".join(augment.changes) if augment else "none"


def drawn(folder, n: int = 6) -> BoxImages:
    """Return blue images, each with a red rectangle, and a box around it."""
    paths, boxes = [], []
    for i in range(n):
        width, height = 120 - 10 * i, 70 + 10 * i
        left, top, right, bottom = 10 + 8 * i, 5 + 9 * i, 40 + 8 * i, 50 + 5 * i
        image = Image.new("RGB", (width, height), (0, 0, 255))
        image.paste((255, 0, 0), (left, top, right, bottom))
        paths.append(str(folder / f"{i}.png"))
        image.save(paths[-1])
        x, y = (left + right) / 2 / width, (top + bottom) / 2 / height
        w, h = (right - left) / width, (bottom - top) / height
        boxes.append(torch.tensor([[i % 3, x, y, w, h, i % 2]]))
    return BoxImages(paths, boxes, largest_classes(boxes, classes=3), [*paths])


def extent(image: torch.Tensor) -> torch.Tensor:
    """Return the edges (left, top, right, bottom) of what is rather red than blue."""
    rows, columns = ((image[0] > image[2]).any(dim).nonzero().flatten() for dim in (1, 0))
    return torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("augment", AUGMENTS, ids=named)
@pytest.mark.parametrize("spec", [SPEC, InputSpec(3, (48, 96), SPEC.mean, SPEC.std)], ids=str)
def test_boxes_stay_on_what_they_are_around(augment, spec, tmp_path):
    views = Views(drawn(tmp_path), spec, seed=0, augment=augment)
    shown, (height, width) = 0, spec.hw
    for index in range(6):
        for epoch in range(6):
            image, targets, _ = views.__getitems__([(epoch, index)])
            for number, x, y, w, h, difficult in targets[0].tolist():
                edges = [(x - w / 2) * width, (y - h / 2) * height]
                edges += [(x + w / 2) * width, (y + h / 2) * height]
                assert (extent(image[0]) - torch.tensor(edges)).abs().max() < 1
                assert (number, difficult) == (index % 3, index % 2)
                shown += 1
    assert shown > (15 if augment and augment.scale else 35)


def test_boxes_of_which_little_is_seen_do_not_count(tmp_path):
    source = drawn(tmp_path, 1)
    whole = 30 * 45 * (64 / 120) ** 2
    views = Views(source, SPEC, seed=0, augment=Augment(scale=(2.0, 2.0)))
    shares = []
    for epoch in range(200):
        image, targets, _ = views.__getitems__([(epoch, 0)])
        share = float((image[0, 0] > image[0, 2]).sum()) / whole / 4
        shares.append(share)
        if abs(share - 0.25) > 0.05:
            assert targets.shape[1] == (share > 0.25)
    assert min(shares) == 0
    assert max(shares) > 0.9


def test_evaluation_keeps_every_box(tmp_path):
    Image.new("RGB", (640, 640)).save(tmp_path / "a.png")
    pixel = torch.tensor([[0, 0.5 / 640, 0.5 / 640, 1 / 640, 1 / 640, 0.0]])
    none = torch.empty(0, 6)
    source = BoxImages([str(tmp_path / "a.png")] * 2, [pixel, none], torch.tensor([0, 1]))
    targets = Views(source, SPEC, seed=0).__getitems__([(0, 0), (0, 1)]).targets
    torch.testing.assert_close(targets[0], pixel)
    assert (targets[1] == -1).all()
    assert Views(source, SPEC, seed=0).__getitems__([(0, 1)]).targets.shape == (1, 0, 6)


def test_the_border_is_grey(tmp_path):
    images = Views(drawn(tmp_path, 1), SPEC, seed=0).__getitems__([(0, 0)]).images
    torch.testing.assert_close(images[0, :, :12], torch.full((3, 12, 64), 127 / 255))


def test_views_are_pure_whatever_the_workers(tmp_path):
    views = Views(drawn(tmp_path), SPEC, seed=1, augment=AUGMENTS[-1])
    assert_views_are_pure(views)
    assert_workers_change_nothing(views)


@pytest.mark.parametrize("augment", AUGMENTS, ids=named)
def test_the_contract(augment, tmp_path):
    check_scenes(drawn(tmp_path), SPEC, augment)


def test_workers_get_one_tensor(tmp_path):
    source = drawn(tmp_path, 3)
    copied = pickle.loads(pickle.dumps(source))
    assert all(torch.equal(a, b) for a, b in zip(copied.boxes, source.boxes, strict=True))
    assert len({rows.untyped_storage().data_ptr() for rows in copied.boxes}) == 1
    assert len(pickle.loads(pickle.dumps(source.subset(torch.tensor([]).long())))) == 0


def test_the_largest_box_is_what_splits_go_by():
    one = torch.tensor([[2, 0.5, 0.5, 0.1, 0.1, 0], [1, 0.5, 0.5, 0.3, 0.2, 1]])
    labels = largest_classes([one, torch.empty(0, 6), one[:1]], classes=3)
    assert labels.tolist() == [1, 3, 2]
    assert labels.dtype == torch.int64
    assert largest_classes([], classes=3).dtype == torch.int64


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (Augment(crop=2), r"augment\.crop: images with boxes take flip, scale, color, sizes"),
        (Augment(resized_crop=(0.5, 1), window=9), r"augment\.resized_crop, window: images with"),
        (Augment(sizes=(64, 80, 100)), r"augment\.sizes: \[80, 100\] are not multiples of 32"),
    ],
)
def test_changes_that_boxes_cannot_have(augment, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        Views(drawn(tmp_path, 1), SPEC, seed=0, augment=augment)


def test_sizes_are_for_square_inputs(tmp_path):
    wide = InputSpec(3, (64, 96), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(ValueError, match=r"sizes: \[64\] are sides of squares, .* of 64 x 96"):
        Views(drawn(tmp_path, 1), wide, seed=0, augment=Augment(sizes=(64,)))


def test_an_input_that_is_not_rgb(tmp_path):
    with pytest.raises(ValueError, match="images with boxes are RGB, and do not fit"):
        Views(drawn(tmp_path, 1), InputSpec(1, 64, (0.0,), (1.0,)), seed=0)


LABEL, NONE = torch.tensor([0]), torch.empty(0, 6)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (([NONE] * 2, LABEL), "with boxes: lengths differ: 1 labels, 1 paths, 2 boxes"),
        (([NONE], LABEL, ["b", "c"]), r"lengths differ: .* 1 boxes, 2 annotations"),
        (([torch.zeros(6).long()], LABEL), r"a: .* must be float32 \[n, 6\], .* not int64 \[6\]"),
        (([NONE], LABEL.float()), r"images with boxes: labels must be an int64 tensor \[N\]"),
    ],
)
def test_lists_that_do_not_fit_each_other(lists, message):
    with pytest.raises(ValueError, match=message):
        BoxImages(["a"], *lists)


def test_a_damaged_image_is_named(tmp_path):
    source = drawn(tmp_path, 1)
    (tmp_path / "0.png").write_text("no image")
    with pytest.raises(ValueError, match=r"0\.png: the image cannot be decoded: not an image"):
        Views(source, SPEC, seed=0).__getitems__([(0, 0)])
