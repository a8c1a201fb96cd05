import pytest
import torch

from kdx.launch.precision import check_precision, in_words

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LAUNCHER = "ACCELERATE_MIXED_PRECISION"


@pytest.fixture(autouse=True)
def _no_launcher(monkeypatch):
    monkeypatch.delenv(LAUNCHER, raising=False)


@pytest.mark.parametrize(
    ("recipe", "launcher"),
    [(None, None), (None, "bf16"), ("no", "fp16"), ("bf16", "fp8"), ("bf16", None)],
)
def test_what_the_cpu_has(recipe, launcher, monkeypatch):
    """The launcher's is not looked at where the recipe says one."""
    if launcher:
        monkeypatch.setenv(LAUNCHER, launcher)
    check_precision(recipe, CPU)


@pytest.mark.parametrize("unknown", ["fp8", "BF16", "float16", ""])
def test_what_accelerate_would_take_for_float32(unknown, monkeypatch):
    monkeypatch.setenv(LAUNCHER, unknown)
    said = rf"{LAUNCHER}: '{unknown}' is not supported: use 'bf16', 'fp16' or 'no'"
    for device in (CPU, GPU):
        with pytest.raises(ValueError, match=said):
            check_precision(None, device)


def test_fp16_on_the_cpu(monkeypatch):
    with pytest.raises(ValueError, match=r"^precision: 'fp16' is not supported on the CPU: use"):
        check_precision("fp16", CPU)
    monkeypatch.setenv(LAUNCHER, "fp16")
    with pytest.raises(ValueError, match=f"^{LAUNCHER}: 'fp16' is not supported on the CPU"):
        check_precision(None, CPU)


def test_bf16_on_a_gpu_that_would_emulate_it(monkeypatch):
    asked = []

    def supported(including_emulation=True):
        asked.append(including_emulation)
        return including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    check_precision("fp16", GPU)
    with pytest.raises(ValueError, match="precision: 'bf16' is not supported on Tesla T4: use '"):
        check_precision("bf16", GPU)
    assert asked == [False]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    check_precision("bf16", GPU)


@pytest.mark.parametrize(
    ("recipe", "launcher", "said"),
    [
        (None, "bf16", "bf16"),
        ("bf16", "no", "bf16"),  # `accelerate launch` says "no" unasked
        ("bf16", "bf16", "bf16"),
        (None, "no", "float32"),
        ("no", "bf16", "float32 (by the recipe; the launcher says bf16)"),
        ("bf16", "fp16", "bf16 (by the recipe; the launcher says fp16)"),
    ],
)
def test_the_recipes_precision_wins_and_that_is_said(recipe, launcher, said, monkeypatch):
    monkeypatch.setenv(LAUNCHER, launcher)
    assert in_words(recipe, recipe or launcher) == said
