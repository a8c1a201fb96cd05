"""Checks that every plug-in must pass, called by the tests of each.

B: batch, C: classes.
"""

import pickle
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kdx.data import Augment
from kdx.models.transforms import exact
from kdx.protocols import ImageSource, InputSpec, Loss, Outputs, StudentTransform
from tests.unit.expand.networks import relative_error, warm_up

__all__ = ["check_geometries", "check_loss", "check_scenes", "check_transform", "outputs"]

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


def check_transform(
    factory: Callable[[], StudentTransform],
    network: Callable[[], nn.Module],
    images: Shape,
    *,
    phases: Sequence[str],
) -> None:
    """Assert what every student transform owes.

    `apply` leaves its argument alone, with ValueError where nothing matches. `enter` takes each
    of `phases`, ordered so that the last can be restored, and refuses others. `restore` leaves
    its argument alone and gives a network of the original classes, state-dict keys and order:
    in eval mode (inside of `exact`, where it has that) the same function of images [B, C, H, W],
    to 1e-4 of the largest logit in float32 and 1e-9 in float64. Applied again, it has a student
    that takes the first one's state dict and is the same function then.
    """
    assert isinstance(factory(), StudentTransform)
    with pytest.raises(ValueError, match=r"\w"):
        factory().apply(nn.Flatten())
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        torch.manual_seed(0)
        transform, compact = factory(), network().to(dtype)
        student = _left_alone(transform.apply, compact)
        for phase in phases:
            transform.enter(student, phase)
        with pytest.raises(ValueError, match="no such phase"):
            transform.enter(student, "no such phase")
        _move_weights(student)
        warm_up(student, *images)
        again = factory().apply(network().to(dtype))
        again.load_state_dict(student.state_dict())
        restored = _left_alone(transform.restore, student).eval()
        assert _anatomy(restored) == _anatomy(compact), "restored, it is another network"
        pixels = torch.randn(images, dtype=dtype)
        with exact(student, [transform]):
            error = relative_error(restored(pixels), student(pixels))
            with exact(again.eval(), [transform]):
                same = torch.equal(again(pixels), student(pixels))
        assert error <= tolerance, f"restored, it is another function: {error:.1e} off in {dtype}"
        assert same, "its state dict does not hold all that it depends on"


def check_geometries(
    factory: Callable[[], StudentTransform],
    seeds: Iterable[int],
    preserving: Callable[[], StudentTransform] | None = None,
) -> int:
    """Assert that a transform keeps the function of random convolutions; return of how many.

    One of each seed, in float64, with and without BatchNorm behind it, of 1 to 3 dimensions, with
    groups, strides, dilation, padding of every mode, and kernels of any sizes. `restore` is exact
    after the weights moved and BatchNorm has run; so is `preserving`'s start, of a network whose
    BatchNorm has run. Those that the transform refuses with ValueError are left out.
    """
    done = 0
    for seed in seeds:
        torch.manual_seed(seed)
        network = _drawn(random.Random(seed))
        shape = (2, network[0].in_channels, *[11] * (network[0].weight.dim() - 2))
        warm_up(network, *shape, steps=2)
        pixels = torch.randn(shape, dtype=torch.float64)
        transform = factory()
        try:
            student = transform.apply(network)
        except ValueError:
            continue
        with torch.no_grad():
            if preserving is not None:
                kept = preserving().apply(network).eval()
                assert relative_error(kept(pixels), network(pixels)) < 1e-12, network
            _move_weights(student)
            warm_up(student, *shape, steps=2)
            restored = transform.restore(student)
            assert _anatomy(restored) == _anatomy(network), network
            assert relative_error(restored(pixels), student(pixels)) < 1e-10, network
            twin = transform.apply(network).eval()
            twin.load_state_dict(student.state_dict())
            assert torch.equal(twin(pixels), student(pixels)), network
        done += 1
    return done


def _drawn(draw: random.Random) -> nn.Sequential:
    """Return a convolution of a random geometry, before other layers, in float64."""
    dims, groups = draw.choice([1, 2, 2, 2, 3]), draw.choice([1, 1, 1, 2, 4])
    inputs = groups * draw.choice([1, 2, 3])
    outputs = draw.choice([inputs, groups * draw.choice([1, 2, 4])])
    many = ([1, 2, 3, 4, 5], [1, 1, 2, 3], [1, 1, 2])
    kernel, stride, dilation = (tuple(draw.choice(of) for _ in range(dims)) for of in many)
    modes = ["zeros", "zeros", "replicate", "circular", *(["reflect"] if dims < 3 else [])]
    odd = all(d * (k - 1) % 2 == 0 for k, d in zip(kernel, dilation, strict=True))
    same = max(stride) == 1 and odd and draw.random() < 0.3
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1](
        inputs,
        outputs,
        kernel,
        stride=stride,
        padding="same" if same else tuple(draw.choice([0, 1, 2, 3]) for _ in range(dims)),
        dilation=dilation,
        groups=groups,
        bias=draw.random() < 0.5,
        padding_mode=draw.choice(modes),
    )
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1](outputs)
    return nn.Sequential(
        conv, norm if draw.random() < 0.5 else nn.Identity(), nn.Hardswish()
    ).double()


def _left_alone(function: Callable[[nn.Module], nn.Module], network: nn.Module) -> nn.Module:
    """Return what `function` makes of `network`: a module of its own, `network` as it was."""
    before = deepcopy(network)
    result = function(network)
    assert _anatomy(network) == _anatomy(before), "its argument changed"
    values = zip(network.state_dict().values(), before.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in values), "its argument has other values"
    mine = {p.data_ptr() for p in network.parameters()}
    shares = not mine.isdisjoint(p.data_ptr() for p in result.parameters())
    assert not shares, "it shares parameters with its argument"
    return result


def _anatomy(network: nn.Module) -> tuple[list, list]:
    classes = [(path, type(module)) for path, module in network.named_modules()]
    return classes, [(k, v.shape, v.dtype) for k, v in network.state_dict().items()]


@torch.no_grad()
def _move_weights(network: nn.Module) -> None:
    """Stand in for training: a transform may be right at its birth alone."""
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))


def check_scenes(source: ImageSource, input: InputSpec, augment: Augment | None) -> None:
    """Assert what every image source owes, with an input and an augmentation that it takes.

    Views are uint8 or float32 [3, H, W], of the size that it says. They depend only on torch's CPU
    generator and, without `augment`, on nothing random. A subset has the samples that were asked
    for, under their names; a copy in another process has them, too. Its files exist. An input of
    two channels is refused.
    """
    assert isinstance(source, ImageSource)
    assert source.labels.dtype == torch.int64
    assert source.labels.shape == (len(source),)
    assert all(Path(file).is_file() for file in source.files)
    with pytest.raises(ValueError, match=r"\w"):
        source.check(InputSpec(2, input.size, (0.0,) * 2, (1.0,) * 2), augment)
    source.check(input, augment)
    chosen = torch.arange(len(source)).flip(0)
    turned, copied = source.subset(chosen), pickle.loads(pickle.dumps(source))
    assert torch.equal(turned.labels, source.labels[chosen])
    for index in range(len(source)):
        image, target = _scene(source, index, input, augment)
        assert image.dtype in (torch.uint8, torch.float32)
        assert image.shape == (3, *source.view_size(input, augment))
        other = len(source) - 1 - index
        assert turned.name(other) == copied.name(index) == source.name(index)
        same = [(source, index), (turned, other), (copied, index)]
        again = [_scene(each, i, input, augment) for each, i in same]
        again += [] if augment else [_scene(source, index, input, augment, seed=1)]
        assert all(torch.equal(a, image) and torch.equal(b, target) for a, b in again)


def _scene(source, index, input, augment, seed=0) -> tuple[Tensor, Tensor]:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return source.view(index, input, augment)
