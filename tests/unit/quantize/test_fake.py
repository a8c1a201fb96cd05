"""Fake quantisation against NumPy, and its gradient."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from quantize import fake_input, fake_weight


def test_weights_lie_on_the_grid_of_their_channel():
    torch.manual_seed(0)
    weight = torch.randn(6, 4, 3, 3) * torch.tensor([1, 10, 0.1, 3, 1e-9, 0]).view(-1, 1, 1, 1)
    found = fake_weight(weight).numpy()
    for channel, values in zip(found, weight.numpy(), strict=True):
        scale = np.float32(max(abs(values).max() / 127, 1e-30))
        levels = np.rint(values / scale)
        assert np.abs(levels).max() == (127 if values.any() else 0)
        np.testing.assert_allclose(channel, levels * scale, rtol=1e-6)


def test_the_folded_scale_of_a_batchnorm_commutes_with_rounding():
    torch.manual_seed(0)
    weight, scale = torch.randn(8, 4, 3, 3), torch.randn(8, 1, 1, 1)
    folded = fake_weight(weight * scale)
    torch.testing.assert_close(folded, fake_weight(weight) * scale, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("ends", [(-1.0, 2.0), (0.0, 6.0), (-0.3, 0.0)])
def test_inputs_lie_on_the_grid_of_their_range(ends):
    torch.manual_seed(0)
    values = 3 * torch.randn(1000)
    found = fake_input(values, torch.tensor(ends)).numpy()
    scale = (ends[1] - ends[0]) / 255
    zero = np.rint(-ends[0] / scale)
    levels = np.clip(np.rint(values.numpy() / scale) + zero, 0, 255)
    np.testing.assert_allclose(found, (levels - zero) * scale, rtol=1e-4, atol=1e-6)
    assert len(np.unique(found)) <= 256
    assert fake_input(torch.zeros(1), torch.tensor(ends)).item() == 0


def test_the_gradient_passes_the_rounding_and_stops_where_numbers_are_clipped():
    weight = torch.randn(3, 5, requires_grad=True)
    factors = torch.randn(3, 5)
    (fake_weight(weight) * factors).sum().backward()
    assert torch.equal(weight.grad, factors)
    values = torch.tensor([-1.5, -0.5, 0.7, 2.5], requires_grad=True)
    fake_input(values, torch.tensor([-1.0, 2.0])).sum().backward()
    assert values.grad.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions_keep_their_dtype(dtype):
    values = torch.linspace(-1, 1, 8).view(2, 4).to(dtype)
    assert fake_weight(values).dtype == dtype
    rounded = fake_input(values, torch.tensor([-1.0, 1.0], dtype=torch.float64))
    assert rounded.dtype == dtype
    assert F.mse_loss(rounded.float(), values.float()) < 1e-4
