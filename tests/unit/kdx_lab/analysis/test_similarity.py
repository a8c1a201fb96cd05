from math import inf, isnan, nan

import numpy as np
import pytest
import torch

from kdx_lab.analysis.similarity import angles_of, cosine, density, minimum, pair_of_batches


def test_cosines_known_by_hand():
    a = torch.tensor([3.0, 4.0, 0.0])
    assert cosine(a, a) == pytest.approx(1, abs=1e-15)
    assert cosine(a, -2 * a) == pytest.approx(-1, abs=1e-15)
    assert cosine(a, torch.tensor([-4.0, 3.0, 7.0])) == 0
    assert cosine(a, torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(0.6, abs=1e-15)


def test_a_cosine_is_taken_in_float64():
    torch.manual_seed(0)
    a, b = torch.randn(100_000), torch.randn(100_000)
    x, y = a.double().numpy(), b.double().numpy()
    assert cosine(1e-30 * a, 1e30 * b) == pytest.approx(
        x @ y / np.sqrt((x @ x) * (y @ y)), abs=1e-9
    )


@pytest.mark.parametrize(
    "other", [torch.zeros(2), torch.tensor([1.0, nan]), torch.tensor([inf, 1])]
)
def test_what_is_zero_or_not_finite_has_no_angle_and_does_not_count(other):
    none = cosine(torch.ones(2), other)
    assert isnan(none)
    assert angles_of([0.5, none, -0.25]) == [0.5, -0.25]
    assert minimum([0.5, none, -0.25]) == -0.25
    assert isnan(minimum([none]))


def test_a_density_integrates_to_one_and_is_of_the_pairs_with_an_angle():
    values = np.random.default_rng(0).normal(0.1, 0.02, 100).tolist()
    found = density([*values, nan])
    assert found is not None
    x, y = found
    assert np.trapezoid(y, x) == pytest.approx(1, abs=1e-4)
    assert x[y.argmax()] == pytest.approx(0.1, abs=0.01)
    assert max(y[0], y[-1]) < 1e-3 * y.max()


@pytest.mark.parametrize("values", [[], [0.5], [nan, 0.5], [0.5, 0.5, 0.5]])
def test_where_all_are_alike_there_is_no_density(values):
    assert density(values) is None


def test_pairs_are_disjoint_and_a_pure_function_of_seed_epoch_and_pair():
    def drawn(seed=0, epoch=0, pair=0):
        return pair_of_batches(100, 40, seed=seed, epoch=epoch, pair=pair)

    first, second = drawn()
    assert len({*first, *second}) == 80
    assert {*first, *second} <= set(range(100))
    assert drawn() == (first, second)
    assert all(
        drawn(**other) != (first, second) for other in ({"seed": 1}, {"epoch": 1}, {"pair": 1})
    )


def test_of_too_few_images_batches_have_as_few_in_common_as_can_be():
    first, second = pair_of_batches(100, 70, seed=0, epoch=0, pair=0)
    assert len(set(first)) == len(set(second)) == 70
    assert len({*first, *second}) == 100


def test_batches_of_all_images_are_refused():
    with pytest.raises(ValueError, match=r"data.batch_size: 64 is not below the number"):
        pair_of_batches(64, 64, seed=0, epoch=0, pair=0)
