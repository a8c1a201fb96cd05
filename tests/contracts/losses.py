"""What every loss owes. B: batch, C: classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kdx.protocols import Loss, Outputs

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
Fill = Callable[[Shape], Tensor]

LOGITS: Shape = (4, 5)
TARGET = torch.tensor([0, 3, 1, 4])


def check_loss(
    factory: Callable[[], Loss],
    *,
    student: Shapes | None = None,
    teacher: Shapes | None = None,
    logits: Shape = LOGITS,
    target: Tensor = TARGET,
    may_overflow: bool = False,
    largest: tuple[float, float] = (1e30, 1e4),
) -> None:
    """Assert what every loss owes.

    A deterministic scalar; no gradient for the teacher, no change to its inputs; finite values
    and student gradients for zero, constant and huge inputs; from half precision and under
    autocast what the same inputs give in float32; float64 from float64.

    `factory` makes a fresh loss. `student` and `teacher` are the shapes [4, ...] of the features
    that it reads, by layer; `logits` and `target` are those of its task, classification's by
    default. `may_overflow` allows an infinite value, not gradient, at the
    `largest` input in float32; the other is for half precision.
    """
    asked = _Asked(factory, (student or {}, teacher or {}), logits, target)
    _check_deterministic(asked)
    _check_inputs_left_alone(asked)
    _check_finite(asked, may_overflow, largest)
    _check_precision(asked)


def outputs(
    shapes: Shapes,
    *,
    fill: Fill | None = None,
    dtype=torch.float32,
    seed=0,
    logits: Shape = LOGITS,
) -> Outputs:
    """Return logits [4, 5], or others, and features of `shapes`, leaves that want gradients."""
    torch.manual_seed(seed)
    fill = fill or torch.randn
    tensors = {n: fill(s).to(dtype).requires_grad_() for n, s in shapes.items()}
    return Outputs(fill(logits).to(dtype).requires_grad_(), tensors)


def pair(student: Shapes | None = None, teacher: Shapes | None = None) -> tuple[Outputs, Outputs]:
    """Return the outputs of a student and a teacher in float64."""
    return tuple(
        outputs(shapes or {}, seed=seed, dtype=torch.float64)
        for seed, shapes in enumerate((student, teacher))
    )


def _tensors(of: Outputs) -> list[Tensor]:
    return [of.logits, *of.features.values()]


@dataclass(frozen=True)
class _Asked:
    """A loss, and what it is asked about."""

    factory: Callable[[], Loss]
    shapes: tuple[Shapes, Shapes]
    logits: Shape
    target: Tensor

    def pair(self, **how) -> tuple[Outputs, Outputs]:
        """Return the outputs of a student and of a teacher."""
        student, teacher = self.shapes
        how["logits"] = self.logits
        return outputs(student, seed=1, **how), outputs(teacher, seed=2, **how)

    def fresh(self, pair: tuple[Outputs, Outputs]) -> Tensor:
        """Return the first value of a new loss, whose parameters are seeded."""
        torch.manual_seed(0)
        return self.factory()(*pair, self.target)


def _check_deterministic(asked: _Asked) -> None:
    pair = asked.pair()
    loss = asked.factory()
    torch.manual_seed(0)
    value = loss(*pair, asked.target)
    assert value.shape == ()
    assert torch.equal(value, loss(*pair, asked.target))
    assert torch.equal(value, asked.fresh(pair))


def _check_inputs_left_alone(asked: _Asked) -> None:
    student, teacher = asked.pair()
    before = [t.detach().clone() for t in _tensors(student) + _tensors(teacher)]
    asked.fresh((student, teacher)).backward()
    after = _tensors(student) + _tensors(teacher)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert all(t.grad is None for t in _tensors(teacher))
    assert any(t.grad is not None and t.grad.any() for t in _tensors(student))


def _check_finite(asked: _Asked, may_overflow: bool, largest: tuple[float, float]) -> None:
    most, half = largest
    fills: list[tuple[Fill, torch.dtype]] = [
        (torch.zeros, torch.float32),
        (lambda s: torch.full(s, 3.0), torch.float32),
        (lambda s: torch.full(s, most), torch.float32),
        (lambda s: most * torch.randn(s).sign(), torch.float32),
        (lambda s: torch.full(s, half), torch.float16),
        (lambda s: half * torch.randn(s).sign(), torch.float16),
    ]
    for number, (fill, dtype) in enumerate(fills):
        student, teacher = asked.pair(fill=fill, dtype=dtype)
        value = asked.fresh((student, teacher))
        value.backward()
        overflows = may_overflow and number in (2, 3)
        assert value.isfinite() or overflows, f"fill {number}: {value}"
        gradients = [t.grad for t in _tensors(student) if t.grad is not None]
        assert all(g.isfinite().all() for g in gradients), f"fill {number}"


def _check_precision(asked: _Asked) -> None:
    plain = asked.fresh(asked.pair())
    assert plain.dtype == torch.float32
    assert asked.fresh(asked.pair(dtype=torch.float64)).dtype == torch.float64
    for dtype in (torch.bfloat16, torch.float16):
        rounded = asked.fresh(asked.pair(fill=lambda s, d=dtype: torch.randn(s).to(d)))
        half = asked.pair(dtype=dtype)
        assert torch.equal(asked.fresh(half), rounded)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(asked.fresh(half), rounded)
            assert torch.equal(asked.fresh(asked.pair()), plain)
