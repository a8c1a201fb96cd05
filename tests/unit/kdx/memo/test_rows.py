import math

import pytest
import torch
import torch.nn.functional as F

from kdx.memo.rows import TopK, Whole


@pytest.mark.parametrize("shape", [(10,), (4, 3, 3), ()])
def test_whole_rows_come_back_rounded(shape):
    torch.manual_seed(0)
    values = torch.randn(5, *shape)
    for dtype, width in (("float16", 2), ("float32", 4)):
        codec = Whole(shape, dtype)
        rows = codec.encode(values)
        assert rows.shape == (5, codec.width) == (5, width * math.prod(shape))
        assert torch.equal(codec.decode(rows), values.to(getattr(torch, dtype)).float())


def test_half_precision_of_the_teacher_is_kept():
    values = torch.randn(3, 4, dtype=torch.bfloat16)
    assert torch.equal(Whole((4,), "float16").decode(Whole((4,), "float16").encode(values)),
                       values.float())  # fmt: skip


def test_top_logits_by_hand():
    """Of probabilities 0.5, 0.25, 0.15, 0.1 the top two stay; the others share 0.25 evenly."""
    codec = TopK(4, 2, "float32")
    logits = torch.tensor([[0.15, 0.5, 0.1, 0.25]]).log()
    rows = codec.encode(logits)
    assert rows.shape == (1, codec.width) == (1, 3 * 4 + 2 * 2)
    expected = torch.tensor([[0.125, 0.5, 0.125, 0.25]])
    torch.testing.assert_close(codec.decode(rows).exp(), expected)


@pytest.mark.parametrize("classes", [50, 70_000])
def test_the_mass_of_the_others_is_theirs_at_temperature_one(classes):
    torch.manual_seed(0)
    logits = 3 * torch.randn(4, classes)
    codec = TopK(classes, 5, "float32")
    kept = codec.decode(codec.encode(logits))
    top = logits.topk(5).indices
    exact, ours = (F.softmax(x.double(), 1).gather(1, top) for x in (logits, kept))
    torch.testing.assert_close(ours, exact, rtol=1e-5, atol=0)
    soft, ours = (F.softmax(x / 4, 1).gather(1, top) for x in (logits, kept))
    assert not torch.allclose(ours, soft, rtol=1e-2)


def test_values_beyond_half_precision():
    values = torch.tensor([[1.0, -7e4]])
    with pytest.raises(ValueError, match=r"7e\+04 is beyond float16's range: set `dtype: float32`"):
        Whole((2,), "float16").encode(values)
    assert Whole((2,), "float32").decode(Whole((2,), "float32").encode(values))[0, 1] == -7e4
    with pytest.raises(ValueError, match="beyond float16's range"):
        TopK(2, 1, "float16").encode(values)


def test_what_is_not_a_number_is_refused():
    values = torch.tensor([[1.0, torch.nan]])
    with pytest.raises(ValueError, match="contains NaN: check the teacher's weights"):
        Whole((2,), "float32").encode(values)


def test_infinite_logits_stay():
    values = torch.tensor([[1.0, -torch.inf]])
    assert torch.equal(Whole((2,), "float16").decode(Whole((2,), "float16").encode(values)), values)


@pytest.mark.parametrize("top", [0, 10, 11])
def test_top_is_below_the_number_of_classes(top):
    with pytest.raises(ValueError, match=rf"^{top} of 10 logits: use 9 or fewer"):
        TopK(10, top, "float16")


def test_what_they_say_of_themselves():
    assert str(Whole((128, 4, 4), "float16")) == "128 x 4 x 4"
    assert str(TopK(1000, 5, "float16")) == "top 5 of 1,000"
