"""CRD by loops; see test_relations.py for several processes, test_resume.py for resumed runs."""

import copy
from math import exp, log, sqrt

import numpy as np
import pytest
import torch
from torch import nn

from kdx.losses import CRD
from kdx.models.modes import as_it_was
from kdx.protocols import Outputs
from tests.contracts import TARGET, check_loss, outputs

LAYERS = {"student_layer": "a", "teacher_layer": "b"}
SHAPES = {"student": {"a": (4, 3, 2)}, "teacher": {"b": (4, 5)}}
OPTIONS = {**LAYERS, "train_images": 9, "dim": 3, "negatives": 4, "run_seed": 7}
CPU = torch.device("cpu")
INDICES = torch.tensor([8, 0, 3, 5])


class Fixed(nn.Module):
    """CRD of four samples, whose banks do not move."""

    def __init__(self):
        super().__init__()
        self.loss = CRD(**OPTIONS)

    def forward(self, *given):
        with as_it_was(self.loss):
            return self.loss(*given, INDICES)


def pair():
    return (
        outputs(SHAPES["student"], dtype=torch.float64),
        outputs(SHAPES["teacher"], seed=1, dtype=torch.float64),
    )


def unit(row):
    return row / sqrt(sum(float(x) ** 2 for x in row))


def expected(loss, student, teacher, epoch, zs=None):
    """Return the value by loops over samples and negatives, and the Zs."""
    steps = 1 + np.random.default_rng((7, epoch)).permutation(8)[:4]
    embedded = []
    for layer, each in zip(loss.embeddings, (student, teacher), strict=True):
        weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        rows = each.detach().flatten(1).numpy()
        embedded.append([unit(weight @ row + bias) for row in rows])
    banks = loss.teacher_bank.numpy(), loss.student_bank.numpy()
    powers = [
        [
            [exp(row @ bank[j] / 0.07) for j in [i, *((i + s) % 9 for s in steps)]]
            for row, i in zip(rows, INDICES.tolist(), strict=True)
        ]
        for rows, bank in zip(embedded, banks, strict=True)
    ]
    zs = zs or [9 * np.mean(each) for each in powers]
    total = 0.0
    for each, z in zip(powers, zs, strict=True):
        for own, *others in each:
            total -= log(own / z / (own / z + 4 / 9))
            total -= sum(log((4 / 9) / (other / z + 4 / 9)) for other in others)
    return total / 4, zs, embedded


def test_contract():
    check_loss(Fixed, **SHAPES)


def test_against_loops_for_two_steps():
    student, teacher = pair()
    loss = CRD(**OPTIONS).double()
    with as_it_was(loss):
        loss(student, teacher, TARGET, INDICES)
    features = student.features["a"], teacher.features["b"]
    zs = None
    for epoch in (0, 1):
        before = copy.deepcopy((loss.student_bank, loss.teacher_bank))
        value, zs, embedded = expected(loss, *features, epoch, zs)
        assert loss(student, teacher, TARGET, INDICES, epoch).item() == pytest.approx(
            value, rel=1e-11
        )
        assert loss.log_z.tolist() == pytest.approx([log(z) for z in zs], rel=1e-12)
        for bank, old, rows in zip(
            (loss.student_bank, loss.teacher_bank), before, embedded, strict=True
        ):
            for index in range(9):
                row = old[index].numpy()
                if index in INDICES.tolist():
                    row = unit(0.5 * row + 0.5 * rows[INDICES.tolist().index(index)])
                np.testing.assert_allclose(bank[index].numpy(), row, rtol=1e-12, atol=1e-15)


def test_the_students_gradient_against_differences():
    student, teacher = pair()
    loss = CRD(**OPTIONS).double()
    with as_it_was(loss):
        loss(student, teacher, TARGET, INDICES)
    loss.log_z.copy_(torch.tensor([2.0, 1.0]))
    feature, zs = student.features["a"], [exp(2), exp(1)]
    with as_it_was(loss):
        loss(student, teacher, TARGET, INDICES).backward()
    assert teacher.features["b"].grad is None
    for place in [(0, 0, 0), (1, 2, 1), (3, 1, 0)]:
        values = []
        for step in (1e-5, -1e-5):
            moved = feature.detach().clone()
            moved[place] += step
            values.append(expected(loss, moved, teacher.features["b"], 0, zs)[0])
        slope = (values[0] - values[1]) / 2e-5
        assert feature.grad[place].item() == pytest.approx(slope, rel=1e-6, abs=1e-8)


def test_by_hand():
    """Two images, one negative: the own row is the same, the other's is opposite; T = 1."""
    loss = CRD(**LAYERS, train_images=2, dim=1, temperature=1.0, negatives=5).double()
    loss.student_bank.copy_(torch.tensor([[1.0], [-1.0]]))
    loss.teacher_bank.copy_(torch.tensor([[1.0], [-1.0]]))
    own = Outputs(torch.zeros(1), {"a": torch.ones(1, 1, dtype=torch.float64)})
    guide = Outputs(torch.zeros(1), {"b": torch.ones(1, 1, dtype=torch.float64)})
    with as_it_was(loss):
        loss(own, guide, TARGET, torch.tensor([0]))
    for layer in loss.embeddings:
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    z = exp(1) + exp(-1)  # 2 images times the mean of two exponentials
    p, q = exp(1) / z, exp(-1) / z
    wanted = -2 * (log(p / (p + 0.5)) + log(0.5 / (q + 0.5)))
    assert loss(own, guide, TARGET, torch.tensor([0])).item() == pytest.approx(wanted, rel=1e-12)
    assert loss.negatives == 1


def test_negatives_are_of_seed_epoch_and_sample_and_never_the_sample_itself():
    loss = CRD(**LAYERS, train_images=9, dim=1, run_seed=7)
    assert loss.negatives == 8
    assert sorted(loss._steps(3, CPU).tolist()) == list(range(9))
    assert loss._steps(3, CPU)[0] == 0
    steps = [
        CRD(**OPTIONS | {"run_seed": seed})._steps(epoch, CPU) for seed, epoch in ((7, 0), (7, 1))
    ]
    assert not torch.equal(*steps)
    assert torch.equal(steps[0], CRD(**OPTIONS)._steps(0, CPU))
    assert not torch.equal(steps[0], CRD(**OPTIONS | {"run_seed": 8})._steps(0, CPU))
    assert torch.equal(CRD(**OPTIONS).student_bank, CRD(**OPTIONS).student_bank)


def test_both_embeddings_learn_and_the_state_comes_back():
    student, teacher = outputs(SHAPES["student"]), outputs(SHAPES["teacher"], seed=1)
    loss, other = CRD(**OPTIONS), CRD(**OPTIONS | {"run_seed": 1})
    loss(student, teacher, TARGET, INDICES).backward()
    assert all(parameter.grad.any() for parameter in loss.parameters())
    assert len(list(loss.parameters())) == 4
    other(student, teacher, TARGET, INDICES)
    other.load_state_dict(loss.state_dict())
    other.seed, other._offsets = 7, {}
    values = [each(student, teacher, TARGET, INDICES, 1) for each in (loss, other)]
    assert torch.equal(*values)
    assert torch.equal(loss.student_bank, other.student_bank)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_images": 1}, r"train_images: 1 is not at least 2"),
        ({"dim": 0}, r"dim: 0 is not at least 1"),
        ({"negatives": 0}, r"negatives: 0 is not at least 1"),
        ({"temperature": 0.0}, r"temperature: 0.0 is not a finite number above 0"),
        ({"momentum": 1.0}, r"momentum: 1.0 is not in \[0, 1\)"),
        (
            {"train_images": 14_000_000, "dim": 128},
            r"dim: two banks of 14,000,000 x 128 numbers take 14.3 GB, more than 8 GB: lower `dim`",
        ),
    ],
)
def test_what_is_out_of_range_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        CRD(**OPTIONS | given)


def test_it_needs_a_teacher():
    with pytest.raises(ValueError, match="crd needs a teacher"):
        CRD(**OPTIONS)(outputs(SHAPES["student"]), None, TARGET, INDICES)
    with pytest.raises(ValueError, match="crd needs the samples' indices"):
        CRD(**OPTIONS)(outputs(SHAPES["student"]), outputs(SHAPES["teacher"]), TARGET)


def test_of_a_sample_that_is_twice_in_a_batch_the_later_view_moves_its_row():
    student, teacher = pair()
    who = torch.tensor([5, 3, 5, 5])
    ends = []
    for _ in range(20):
        torch.manual_seed(0)  # for the embeddings
        loss = CRD(**OPTIONS)
        loss(student, teacher, TARGET, who)
        ends.append(loss.student_bank.clone())
    assert all(torch.equal(end, ends[0]) for end in ends)
    start = CRD(**OPTIONS).student_bank[5]
    row = loss.embeddings[0](student.features["a"].flatten(1))[3].float()
    expected = nn.functional.normalize(start / 2 + nn.functional.normalize(row, dim=0) / 2, dim=0)
    torch.testing.assert_close(ends[0][5], expected, rtol=1e-5, atol=1e-6)


def test_a_sample_beyond_the_bank_is_refused():
    with pytest.raises(ValueError, match=r"crd: train_images: 9, but sample 9 is trained on"):
        CRD(**OPTIONS)(*pair(), TARGET, INDICES + 1)
