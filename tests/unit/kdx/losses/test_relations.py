"""What losses see of a batch: two processes with uneven parts equal one process."""

import pytest
import torch
from torch import distributed, multiprocessing

from kdx.losses import CC, CRD, DIST, PKT, RKD, SP
from kdx.losses.relations import gathered, scaled, unit_rows
from kdx.protocols import Outputs

LAYERS = {"student_layer": "a", "teacher_layer": "b"}
LOSSES = [SP(**LAYERS), CC(**LAYERS), RKD(**LAYERS), PKT(**LAYERS), DIST(temperature=2)]
PARTS = (slice(0, 4), slice(4, 7))  # of a batch of 7


def batch():
    torch.manual_seed(0)
    shapes = (7, 5), (7, 3, 2), (7, 5), (7, 4)
    own, feature, guide, hint = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    own.requires_grad_()
    feature.requires_grad_()
    return own, feature, guide, hint


def evaluated(loss, part=slice(None)):
    """Return the value on a part of the batch, and the gradients by its share of the batch."""
    tensors = batch()
    own, feature, guide, hint = (each[part] for each in tensors)
    value = loss(Outputs(own, {"a": feature}), Outputs(guide, {"b": hint}), torch.zeros(len(own)))
    (value * len(own) / 7).backward()
    return value.item(), [tensor.grad for tensor in tensors[:2]]


def banked(part=slice(None)):
    """Take two steps of CRD on a part of the batch; return values, gradients and buffers."""
    torch.manual_seed(1)
    loss = CRD(**LAYERS, train_images=20, dim=3, negatives=6, run_seed=5).double()
    loss.embeddings.extend([torch.nn.Linear(6, 3), torch.nn.Linear(4, 3)]).double()
    tensors, indices, values = batch(), 2 * torch.arange(7)[part], []
    own, feature, guide, hint = (each[part] for each in tensors)
    outputs = Outputs(own, {"a": feature}), Outputs(guide, {"b": hint})
    for epoch in (0, 1):
        value = loss(*outputs, own, indices, epoch) * len(own) / 7
        value.backward()
        values.append(value.detach())
    gradients = [tensors[1].grad, *(parameter.grad for parameter in loss.parameters())]
    return [*values, *gradients], list(loss.buffers())


def work(rank, path, results):
    init = f"file://{path}"
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    found = []
    for loss in LOSSES:
        value, gradients = evaluated(loss, PARTS[rank])
        for gradient in gradients:
            if gradient is not None:
                distributed.all_reduce(gradient)
        found.append((value, [None if g is None else g.tolist() for g in gradients]))
    sums, buffers = banked(PARTS[rank])
    for each in sums:
        distributed.all_reduce(each)
    results.put((rank, found, [each.tolist() for each in [*sums, *buffers]]))
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    spawn = multiprocessing.get_context("spawn")
    results = spawn.SimpleQueue()
    multiprocessing.spawn(work, (tmp_path / "store", results), nprocs=2)
    (_, found, banks), (*_, others) = sorted(results.get() for _ in range(2))
    for loss, (value, gradients) in zip(LOSSES, found, strict=True):
        alone, expected = evaluated(loss)
        assert value == pytest.approx(alone, rel=1e-10), type(loss).__name__
        for gradient, wanted in zip(gradients, expected, strict=True):
            assert (gradient is None) == (wanted is None)
            if wanted is not None:
                together = torch.tensor(gradient, dtype=torch.float64)
                torch.testing.assert_close(together, wanted, rtol=1e-9, atol=1e-12)
    assert banks == others
    for together, wanted in zip(banks, [each for part in banked() for each in part], strict=True):
        found = torch.tensor(together, dtype=torch.float64)
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-12)


def test_one_process_has_its_own_rows():
    features = torch.randn(3, 2, 4)
    assert torch.equal(gathered(features), features.flatten(1))


def test_rows_of_any_size_are_scaled():
    rows = torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30]], requires_grad=True)
    unit_rows(rows).sum().backward()
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]])
    torch.testing.assert_close(unit_rows(rows), expected)
    assert rows.grad.isfinite().all()
    assert scaled(torch.zeros(2, 2)).tolist() == [[0, 0], [0, 0]]
    assert scaled(torch.tensor([-4.0, 2.0])).tolist() == [-1, 0.5]
