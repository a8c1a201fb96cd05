import pytest
import torch
from torchvision.transforms.v2 import functional

from kdx.data.augment import Augment
from kdx.data.geometry import Span, place, span


@pytest.mark.parametrize(
    ("side", "view", "scale", "where", "expected"),
    [
        (100, 40, 0.4, 0.5, Span(0, 100, 0, 40, 0)),  # as large as the view
        (75, 40, 0.4, 0.5, Span(0, 75, 5, 30, 5)),  # smaller: padded on both sides
        (75, 40, 0.4, 0.0, Span(0, 75, 0, 30, 10)),
        (75, 40, 0.4, 0.999, Span(0, 75, 10, 30, 0)),
        (100, 40, 0.8, 0.5, Span(25, 50, 0, 40, 0)),  # larger: half of it is seen
        (100, 40, 0.8, 0.0, Span(0, 50, 0, 40, 0)),
        (100, 40, 0.8, 0.999, Span(50, 50, 0, 40, 0)),
        (3, 40, 0.01, 0.5, Span(0, 3, 20, 1, 19)),  # a pixel at least
        (3, 2, 40.0, 0.5, Span(1, 1, 0, 2, 0)),
    ],
)
def test_spans_by_hand(side, view, scale, where, expected):
    assert span(side, view, scale=scale, where=where) == expected


def test_every_place_is_equally_likely():
    wheres = torch.arange(1100).double() / 1100
    starts = [span(20, 10, scale=1.0, where=float(w)).start for w in wheres]
    assert torch.tensor(starts).bincount().tolist() == [100] * 11


def test_a_letterbox_by_hand():
    """400 x 300 on 160 x 160: enlarged by 0.4 to 160 x 120, 20 grey pixels above and below."""
    placed = place((300, 400), (160, 160), scales=(0.4, 0.4), augment=None)
    image = torch.full((3, 300, 400), 255, dtype=torch.uint8)
    view = placed.image(image, [127.0] * 3)
    assert (view[:, :20] == 127).all()
    assert (view[:, 20:140] == 255).all()
    assert (view[:, 140:] == 127).all()
    rows = torch.tensor([[0.5, 0.5, 1.0, 1.0], [0.25, 0.1, 0.1, 0.2]])
    boxes, seen = placed.boxes(rows, (300, 400))
    expected = [[0.5, 0.5, 1.0, 0.75], [0.25, (30 * 0.4 + 20) / 160, 0.1, 0.15]]
    torch.testing.assert_close(boxes, torch.tensor(expected))
    torch.testing.assert_close(seen, torch.ones(2))


def test_boxes_that_the_border_cuts():
    """The left half of 8 x 4 pixels, mirrored: a box on columns 2 to 6 is seen to a half."""
    placed = place((4, 8), (4, 4), scales=(1.0, 1.0), augment=None)
    placed = placed._replace(columns=Span(0, 4, 0, 4, 0), mirrored=True)
    rows = torch.tensor([[0.5, 0.5, 0.5, 1.0], [0.875, 0.5, 0.25, 0.5]])
    boxes, seen = placed.boxes(rows, (4, 8))
    assert boxes[0].tolist() == [0.25, 0.5, 0.5, 1.0]
    assert seen.tolist() == [0.5, 0.0]


def test_masks_take_the_pixel_below_their_centre():
    """Image and mask stay together: a step between two columns is where it was."""
    mask = torch.zeros(12, 12, dtype=torch.uint8)
    mask[:, 6:] = 1
    for side in (4, 6, 10, 36):
        placed = place((12, 12), (side, side), scales=(side / 12,) * 2, augment=None)
        assert placed.mask(mask).sum(1).tolist() == [side // 2] * side
    placed = place((12, 12), (4, 4), scales=(1 / 3, 1 / 3), augment=None)
    mask = torch.arange(144, dtype=torch.uint8).view(12, 12)
    assert torch.equal(placed.mask(mask), mask[1::3, 1::3])


def test_resizing_and_colours_are_torchvisions():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 30, 40), dtype=torch.uint8, generator=generator)
    placed = place((30, 40), (16, 16), scales=(0.4, 0.4), augment=None)
    expected = functional.resize(image, [12, 16], antialias=True)
    view = placed.image(image, [0.0] * 3)
    assert torch.equal(view[:, 2:14], expected)
    torch.manual_seed(0)
    changed = placed._replace(color=0.5).image(image, [127.0] * 3)[:, 2:14].float()
    assert 5 < (changed - expected).abs().mean() < 60


def draws(augment: Augment, n: int = 400) -> torch.Tensor:
    """Return scale, place and mirroring of `n` placements of 64 x 64 on 64 x 64, [n, 4]."""
    torch.manual_seed(0)
    rows = []
    for _ in range(n):
        placed = place((64, 64), (64, 64), scales=(1.0, 1.0), augment=augment)
        side = placed.rows
        rows.append((side.length / side.part, side.before, side.start, placed.mirrored))
    return torch.tensor(rows, dtype=torch.float64)


def test_what_is_drawn():
    scales, before, start, mirrored = draws(Augment(scale=(0.5, 2.0), flip=True)).T
    assert 0.5 <= scales.min() < 0.52
    assert 1.9 < scales.max() <= 2.04
    assert abs(scales.mean() - 1.25) < 0.05
    assert abs(mirrored.mean() - 0.5) < 0.06
    assert before.max() > 25
    assert start.max() > 25
    assert not ((before > 0) & (start > 0)).any()
    assert draws(Augment()).unique(dim=0).tolist() == [[1, 0, 0, 0]]
