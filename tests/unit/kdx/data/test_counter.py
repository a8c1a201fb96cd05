import random

import numpy as np
import pytest
import torch

from kdx.data.counter import (
    Draw,
    _hash,
    integers,
    permutation,
    seed_python_and_numpy,
    seeded,
    uniform,
)
from kdx.data.crops import ATTEMPTS

N = 100_000


def correlation(a, b) -> float:
    return abs(np.corrcoef(a, b)[0, 1])


def test_it_chains_splitmix64():
    # The first outputs of the published splitmix64.c, seeded with 0.
    assert [hex(_hash(word)[0]) for word in range(3)] == [
        "0xe220a8397b1dcdaf",
        "0x6e789e6aa1b965f4",
        "0x6c45d188009454f",
    ]


@pytest.mark.parametrize("key", [(0, 0, 0), (1, 0, 0), (0, 7, 2), (2**40, 299, 100)])
def test_uniform_over_indices(key):
    seed, epoch, draw = key
    counts = np.histogram(uniform(seed, epoch, np.arange(N), draw), bins=100, range=(0, 1))[0]
    chi_square = ((counts - N / 100) ** 2 / (N / 100)).sum()
    assert 56 < chi_square < 161  # 0.01 % on either side, at 99 degrees of freedom


def test_uniform_over_epochs_seeds_and_draws():
    many = np.arange(N)
    for numbers in (uniform(0, many, 5, 1), uniform(0, 3, 5, many)):
        counts = np.histogram(numbers, bins=100, range=(0, 1))[0]
        assert 56 < ((counts - N / 100) ** 2 / (N / 100)).sum() < 161


def test_keys_are_independent():
    indices = np.arange(N)
    base = uniform(0, 0, indices, 0)
    neighbours = [uniform(1, 0, indices, 0), uniform(0, 1, indices, 0), uniform(0, 0, indices, 1)]
    bound = 4.5 / np.sqrt(N)
    assert all(correlation(base, other) < bound for other in neighbours)
    assert all(correlation(base[:-lag], base[lag:]) < bound for lag in (1, 2, 8, 128))


def test_words_do_not_commute():
    assert uniform(1, 2, 3, 4) != uniform(2, 1, 3, 4)
    assert uniform(1, 2, 3, 4) != uniform(1, 3, 2, 4)


def test_a_number_does_not_depend_on_its_batch():
    alone = [uniform(3, 2, i, 1)[0] for i in (9, 4, 77)]
    assert uniform(3, [2, 2, 2], [9, 4, 77], 1).tolist() == alone


def test_integers_cover_their_range_evenly():
    counts = np.bincount(integers(0, 0, np.arange(N), 1, 9))
    assert len(counts) == 9
    assert ((counts - N / 9) ** 2 / (N / 9)).sum() < 32  # 0.01 % at 8 degrees of freedom


def test_permutation_is_one_and_its_own_per_epoch():
    first, second = permutation(0, 0, 1000), permutation(0, 1, 1000)
    assert first.sort().values.tolist() == list(range(1000))
    assert first.tolist() == permutation(0, 0, 1000).tolist()
    assert (first == second).sum() < 10  # one is expected
    assert correlation(first, second) < 0.15
    assert permutation(0, 0, 0).tolist() == []


def test_draws_do_not_overlap():
    assert len({*Draw}) == len(Draw.__members__)
    assert sorted(Draw)[-2:] == [Draw.RESIZED_CROP, Draw.PAIR]
    assert Draw.RESIZED_CROP + 4 * ATTEMPTS <= Draw.PAIR


def drawn_of_each() -> list[float]:
    return [torch.rand(()).item(), np.random.rand(), np.random.randn(), random.random()]


def test_all_generators_stand_where_the_key_says_and_go_on_as_if_nothing_was():
    def after(*keys) -> list[float]:
        torch.manual_seed(5)
        seed_python_and_numpy(5)
        drawn_of_each()
        for key in keys:
            with seeded(*key, Draw.SCENE):
                drawn_of_each()
        return drawn_of_each()

    assert after() == after((1, 2, 3)) == after((1, 2, 3), (4, 5, 6))
    found = []
    for key in ((1, 2, 3), (0, 2, 3), (1, 0, 3), (1, 2, 0), (1, 2, 3)):
        with seeded(*key, Draw.SCENE):
            found.append(drawn_of_each())
    assert found[0] == found.pop()
    assert len({number for each in found for number in each}) == 16


def test_seeds_beyond_32_bits_are_of_their_own():
    found = []
    for seed in (7, 7 + 2**32, 7 + 2**33, 2**62):
        seed_python_and_numpy(seed)
        found += [np.random.rand(), random.random()]
    assert len(set(found)) == 8
    np.random.seed(7)  # as in earlier runs
    random.seed(7)
    assert found[:2] == [np.random.rand(), random.random()]


def test_torch_goes_on_where_an_error_left_the_key():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match="lost"), seeded(1, 2, 3, Draw.SCENE):
        raise ValueError("lost")
    assert torch.equal(torch.get_rng_state(), state)
