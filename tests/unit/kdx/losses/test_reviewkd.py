import pytest
import torch
from torch.nn import functional as F

from kdx.losses import ReviewKD
from kdx.losses.reviewkd import _hierarchical
from tests.contracts import TARGET, check_loss, pair

SHAPES = {
    "student": {"a": (4, 3, 8, 8), "b": (4, 5, 4, 4), "c": (4, 6)},
    "teacher": {"d": (4, 4, 8, 8), "e": (4, 7, 8, 8), "f": (4, 9)},
}
LAYERS = [["a", "d"], ["b", "e"], ["c", "f"]]


def test_contract():
    check_loss(lambda: ReviewKD(layers=LAYERS, width=8), **SHAPES, largest=(1e15, 1e4))


def test_against_the_formula():
    student, teacher = pair(**SHAPES)
    loss = ReviewKD(layers=LAYERS, width=8)
    value = loss(student, teacher, TARGET)
    first, second, third = loss.stages
    s, t = student.features, teacher.features
    deep = third.enter(s["c"][:, :, None, None])
    total = (third.leave(deep) - t["f"][:, :, None, None]).square().mean()
    x, y = second.enter(s["b"]), deep.expand(4, 8, 4, 4)
    z = second.attend(torch.cat([x, y], 1))
    fused = (x * z[:, :1] + y * z[:, 1:]).repeat_interleave(2, 2).repeat_interleave(2, 3)
    maps = [(second.leave(fused), t["e"])]
    x = first.enter(s["a"])
    z = first.attend(torch.cat([x, fused], 1))
    maps.append((first.leave(x * z[:, :1] + fused * z[:, 1:]), t["d"]))
    for own, guide in maps:
        levels = [(own, guide), *((F.avg_pool2d(own, 8 // n), F.avg_pool2d(guide, 8 // n))
                                  for n in (4, 2, 1))]  # fmt: skip
        weighted = zip((1, 1 / 2, 1 / 4, 1 / 8), levels, strict=True)
        total = total + sum(w * (a - b).square().mean() for w, (a, b) in weighted) / 1.875
    assert value.item() == pytest.approx(total.item(), rel=1e-12)


def test_small_maps_are_pooled_to_smaller_sizes_only():
    own, guide = torch.randn(2, 2, 3, 2, 2)
    expected = (F.mse_loss(own, guide) + F.mse_loss(own.mean((2, 3)), guide.mean((2, 3))) / 2) / 1.5
    torch.testing.assert_close(_hierarchical(own, guide), expected)


def test_widths_out_of_range_are_refused():
    with pytest.raises(ValueError, match="width: 0 is not at least 1"):
        ReviewKD(layers=LAYERS, width=0)
