import pytest
import torch

from kdx.data.sources import MemoryImages
from kdx.data.splits import complement, split, stratified
from kdx.protocols import ImageData, InputSpec

N = 200


def source(n: int, name: str) -> MemoryImages:
    generator = torch.Generator().manual_seed(n)
    labels = torch.randint(0, 4, (n,), generator=generator)
    return MemoryImages(torch.zeros(n, 1, 2, 2, dtype=torch.uint8), labels, name)


DATA = ImageData(source(N, "train"), source(50, "test"), "abcd", InputSpec(1, 2, (0.5,), (0.5,)))


def names(part) -> set[str]:
    return {part.name(i) for i in range(len(part))}


@pytest.mark.parametrize(("validation", "count"), [(0.1, 20), (37, 37), (1, 1), (199, 199)])
def test_validation_is_taken_out_of_train(validation, count):
    splits = split(DATA, validation=validation, limit=None, seed=0)
    assert splits.validation is not None
    assert len(splits.validation) == count
    assert len(splits.train) == N - count
    assert names(splits.train) | names(splits.validation) == names(DATA.train)
    assert [DATA.train.name(i) for i in splits.numbers] == [
        splits.train.name(i) for i in range(len(splits.train))
    ]
    assert splits.test is DATA.test


def test_nothing_held_out():
    splits = split(DATA, validation=None, limit=None, seed=0)
    assert splits.validation is None
    assert splits.train is DATA.train


def test_a_limit_moves_no_sample():
    whole = split(DATA, validation=40, limit=None, seed=3)
    limited = split(DATA, validation=40, limit=25, seed=3)
    assert whole.validation is not None
    assert limited.validation is not None
    for part in (limited.train, limited.validation, limited.test):
        assert len(names(part)) == 25
    assert {DATA.train.name(i) for i in limited.numbers} == names(limited.train)
    assert names(limited.train) < names(whole.train)
    assert names(limited.validation) < names(whole.validation)


def test_the_seed_chooses():
    one, again, two = (split(DATA, validation=20, limit=None, seed=s).validation for s in (1, 1, 2))
    assert names(one) == names(again) != names(two)


def test_each_class_gets_its_share():
    labels = DATA.train.labels
    for count in (4, 10, 50, 199, 200):
        chosen = stratified(labels, count, seed=0, draw=0)
        assert len(chosen.unique()) == count
        share = labels.bincount() * count / N
        assert ((labels[chosen].bincount(minlength=4) - share).abs() < 1).all()


def test_complement():
    assert complement(torch.tensor([0, 3]), 5).tolist() == [1, 2, 4]


@pytest.mark.parametrize("validation", [0, 200, 0.0, 1.0, 0.001, -5])
def test_validation_that_leaves_nothing(validation):
    message = rf"validation: {validation} holds out -?\d+ of 200 .* or 1 to 199 samples"
    with pytest.raises(ValueError, match=message):
        split(DATA, validation=validation, limit=None, seed=0)


@pytest.mark.parametrize("limit", [0, {"train": 0}, {"train": 5, "test": -1}])
def test_limit_that_leaves_nothing(limit):
    with pytest.raises(ValueError, match=r"limit: .* leaves no samples"):
        split(DATA, validation=None, limit=limit, seed=0)


def test_limit_of_named_parts():
    whole = split(DATA, validation=50, limit=20, seed=3)
    part = split(DATA, validation=50, limit={"train": 20}, seed=3)
    assert torch.equal(part.numbers, whole.numbers)
    assert part.validation is not None
    assert (len(part.train), len(part.validation), len(part.test)) == (20, 50, len(DATA.test))
