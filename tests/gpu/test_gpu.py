"""What a GPU may change: rounding, scalers, transfers, synchronisation, compiled graphs.

`make gpu` runs these on CUDA. `KDX_GPU_TESTS=cpu` runs on the CPU what the CPU has.
"""

import json
import os

import pytest
import torch
from torch import nn

import expand
from kdx.models.certificate import certify
from kdx.models.students import smallnet
from kdx.run.run import run
from kdx.training.stage import StageRunner
from tests.faults.resuming import run_stopped_at
from tests.unit.conftest import loaded, silent
from tests.unit.runs import contents

CUDA, ASKED = torch.cuda.is_available(), os.environ.get("KDX_GPU_TESTS") == "cpu"
DEVICE = torch.device("cuda" if CUDA else "cpu")
ON_CUDA = pytest.mark.skipif(not CUDA, reason="no CUDA device")
pytestmark = pytest.mark.skipif(not (CUDA or ASKED), reason="no CUDA device")

CL = "student.transforms=[{use: expand.ExpandNet, conv: cl, linear: true, rate: 2}]"
TEACHER = "teacher={use: smallnet, allow_chance: true}"
KD = "losses=[{use: cross_entropy}, {use: kd}]"


@pytest.fixture
def tf32_allowed():
    """Return a function that sets whether float32 may be TF32, and set it back afterwards."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [place.allow_tf32 for place in places]

    def allow(tf32):
        for place in places:
            place.allow_tf32 = tf32

    yield allow
    for place, value in zip(places, before, strict=True):
        place.allow_tf32 = value


def trained(place, *overrides, name="run"):
    """Run the minimal recipe; return the directory and what was printed."""
    console = silent()
    directory = run(loaded(place, *overrides, name=name), console)
    return directory, console.file.getvalue()


def expanded():
    torch.manual_seed(0)
    network = expand.expand(smallnet(in_channels=3, kernel_size=7), "cl", linear=True, rate=2)
    return network.to(DEVICE)


def chained(network):
    """Return a copy that runs its factors one after the other."""
    twin = expand.expand(smallnet(in_channels=3, kernel_size=7), "cl", linear=True, rate=2)
    twin.load_state_dict(network.state_dict())
    for module in twin.modules():
        if isinstance(module, expand.ExpandedUnit):
            module.mode = "unfolded"
    return twin.to(DEVICE)


@pytest.mark.parametrize(("tf32", "bf16", "bound"), [
    (False, False, 1e-5), (True, False, 1e-2), (False, True, 5e-2),
])  # fmt: skip
def test_folded_equals_the_chain(tf32, bf16, bound, tf32_allowed):
    """As far as the precision reaches: products are made in float32, with TF32 where allowed."""
    tf32_allowed(tf32)
    network = expanded().eval()
    images = torch.randn(16, 3, 32, 32, device=DEVICE)
    with torch.no_grad(), torch.autocast(DEVICE.type, torch.bfloat16, enabled=bf16):
        folded, chain = network(images).float(), chained(network).eval()(images).float()
    assert (folded - chain).abs().max() <= bound * chain.abs().max()


def test_training_on_the_device_ends_in_an_exact_compact_network():
    network = expanded()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):
        nn.functional.cross_entropy(
            network(torch.randn(8, 3, 32, 32, device=DEVICE)), torch.arange(8, device=DEVICE)
        ).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not certify(network, expand.compress, [torch.randn(8, 3, 32, 32)]).problems


@pytest.mark.parametrize("precision", ["no", "bf16", pytest.param("fp16", marks=ON_CUDA)])
def test_a_run_in_each_precision_is_certified(precision, tmp_path):
    directory, printed = trained(tmp_path, TEACHER, KD, CL, f"precision={precision}")
    assert f"device   {DEVICE.type}" in printed
    assert {"no": "float32"}.get(precision, precision) in printed
    assert json.loads((directory / "certificate.json").read_text())["holds"]


@pytest.mark.parametrize("also", [(), ("compile=true",), ("precision=bf16",)])
def test_a_resumed_run_ends_as_one_that_was_not_stopped(also, tmp_path, monkeypatch):
    """To the byte on the CPU in float32; sums of floats on a GPU need not be repeatable."""
    first, second = (tmp_path / name for name in ("whole", "stopped"))
    first.mkdir()
    second.mkdir()
    what = (TEACHER, KD, CL, "data.augment.crop=2", "epochs=2", *also)
    whole, _ = trained(first, *what)
    resumed = run_stopped_at(loaded(second, *what), [2, 3], monkeypatch)
    pairs, close = [contents(whole), contents(resumed)], 0.0 if not CUDA else 1e-4
    for name, value in pairs[0].items():
        torch.testing.assert_close(pairs[1][name], value, rtol=close, atol=close)


def test_a_memo_gives_what_the_live_teacher_gives(tmp_path):
    stored, live = (
        trained(tmp_path, f"{TEACHER[:-1]}, memo: {memo}}}", KD, "epochs=2", name=name)[0]
        for name, memo in {"stored": "{views: 1, dtype: float32}", "live": "false"}.items()
    )
    pairs = [contents(stored), contents(live)]
    assert all(torch.allclose(value, pairs[1][name], atol=1e-4) for name, value in pairs[0].items())


@ON_CUDA
@pytest.mark.parametrize("memo", ["false", "{views: 1}"])
def test_a_step_does_not_wait_for_the_device(memo, tmp_path, monkeypatch):
    """After the first ones, which find shapes out. A memo reads its rows on the CPU alone."""
    step, count = StageRunner.step, iter(range(1000))

    def strict(self, *arguments, **named):
        torch.cuda.set_sync_debug_mode("error" if next(count) > 1 else "default")
        try:
            return step(self, *arguments, **named)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(StageRunner, "step", strict)
    trained(tmp_path, f"{TEACHER[:-1]}, memo: {memo}}}", KD, CL, "epochs=2")
    assert next(count) > 4


def test_a_compiled_network_keeps_its_folded_values():
    """By Inductor with CUDA graphs (`reduce-overhead`), where there is CUDA."""
    network = expanded().eval()
    images = torch.randn(8, 3, 32, 32, device=DEVICE)
    torch.compiler.reset()
    compiled = torch.compile(network, mode="reduce-overhead" if CUDA else None, fullgraph=True)
    with torch.no_grad():
        expected, found = network(images), compiled(images)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert (found - expected).abs().max() <= 1e-2 * expected.abs().max()


def test_channels_last_changes_rounding_alone(tmp_path, monkeypatch):
    seen, step = [], StageRunner._backward

    def watched(self, batch, whole, size):
        images = self.runtime.to_device(batch.images, size=size)
        seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return step(self, batch, whole, size)

    monkeypatch.setattr(StageRunner, "_backward", watched)
    first, second = (
        contents(trained(tmp_path, "data.channels=3", CL, f"channels_last={value}", name=value)[0])
        for value in ("true", "false")
    )
    assert all(torch.allclose(value, second[name], atol=1e-3) for name, value in first.items())
    assert {*seen} == {True, False}
