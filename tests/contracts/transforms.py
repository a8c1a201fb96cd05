"""What every student transform owes. B: batch, C: channels."""

import random
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy

import pytest
import torch
from torch import nn

from kdx.models.transforms import exact
from kdx.protocols import StudentTransform
from tests.unit.expand.networks import relative_error, warm_up


def check_transform(
    factory: Callable[[], StudentTransform],
    network: Callable[[], nn.Module],
    images: tuple[int, ...],
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
    assert done, "it refuses every convolution"
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
