import os
import re

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision import models

from kdx.models import weights
from kdx.protocols import InputSpec

SPEC = InputSpec(channels=3, size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def network(seed=0, width=4):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, 2, 1))


def same(a, b):
    b = b.state_dict()
    return all(torch.equal(value, b[name]) for name, value in a.state_dict().items())


def test_round_trip(tmp_path):
    saved, other = network(), network(seed=1)
    path = tmp_path / "a.safetensors"
    weights.save(saved, path, input=SPEC, classes=2, extra={"run": "x"})
    assert weights.load(other, path) == SPEC
    assert same(saved, other)
    assert weights.read_spec(path) == SPEC
    about = weights.read_metadata(path)
    assert (about["classes"], about["extra"]) == (2, {"run": "x"})
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    weights.save(network(), tmp_path / "a.safetensors", input=SPEC, classes=2)
    modes = [os.stat(tmp_path / name).st_mode for name in ("usual", "a.safetensors")]
    assert modes[0] == modes[1]


def test_run_directory(tmp_path):
    weights.save(network(), tmp_path / "student.safetensors", input=SPEC, classes=2)
    other = network(seed=1)
    assert weights.load(other, str(tmp_path)) == SPEC
    assert same(network(), other)


def test_strided_tensors_are_saved_contiguous(tmp_path):
    state = {"weight": torch.arange(6.0).reshape(2, 3).T, "half": torch.ones(4, 2)[:, 0]}
    weights.save(state, tmp_path / "a.safetensors", input=SPEC, classes=2)
    loaded = load_file(tmp_path / "a.safetensors")
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_tied_weights(tmp_path):
    tied, other = (nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)) for _ in range(2))
    for module in (tied, other):
        module[1].weight = module[0].weight
    weights.save(tied, tmp_path / "a.safetensors", input=SPEC, classes=2)
    weights.load(other, tmp_path / "a.safetensors")
    assert same(tied, other)
    assert other[1].weight is other[0].weight


def test_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save(network(), path, input=SPEC, classes=2)
    with pytest.raises(TypeError, match=r"not JSON serializable"):
        weights.save(network(seed=1), path, input=SPEC, classes=2, extra={"bad": object()})
    weights.load(other := network(seed=1), path)
    assert same(network(), other)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.parametrize("suffix", [".pth", ".pt"])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    ],
)
def test_foreign_checkpoints(tmp_path, wrap, suffix):
    path = tmp_path / f"a{suffix}"
    torch.save(wrap(network().state_dict()), path)
    other = network(seed=1)
    assert weights.load(other, path) is None
    assert same(network(), other)


def test_old_files_without_batch_counters(tmp_path):
    state = {k: v for k, v in network().state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "a.pth")
    weights.load(other := network(seed=1), tmp_path / "a.pth")
    assert same(network(), other)


def test_layers_that_check_their_version(tmp_path):
    saved, other = models.mnasnet0_5(), models.mnasnet0_5()
    weights.save(saved, tmp_path / "a.safetensors", input=SPEC, classes=1000)
    weights.load(other, tmp_path / "a.safetensors")
    assert same(saved, other)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path):
    state = network(width=5).state_dict()
    state["head.weight"] = state.pop("2.weight")
    save_file(state, tmp_path / "a.safetensors")
    module = network(seed=1)
    with pytest.raises(
        ValueError, match=r"a.safetensors: state dict does not match the network"
    ) as caught:
        weights.load(module, tmp_path / "a.safetensors")
    assert str(caught.value).splitlines()[1:] == [
        "  missing keys (1): 2.weight",
        "  unexpected keys (1): head.weight",
        "  shape mismatch (6): 0.weight (5, 3, 3, 3), not (4, 3, 3, 3), 0.bias (5,), not (4,), "
        "1.weight (5,), not (4,), 1.bias (5,), not (4,), "
        "1.running_mean (5,), not (4,), 1.running_var (5,), not (4,)",
    ]
    assert same(network(seed=1), module)


def test_only_the_first_names_are_listed(tmp_path):
    save_file({f"layer{i:02}": torch.zeros(1) for i in range(12)}, tmp_path / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"unexpected keys \(12\): layer00, .*, layer09, and 2 more$"
    ):
        weights.load(nn.Identity(), tmp_path / "a.safetensors")


class Payload:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_planted_code_is_named_and_not_run(tmp_path):
    path, trace = tmp_path / "a.pth", tmp_path / "ran"
    torch.save({"state_dict": Payload(f"touch {trace}")}, path)
    with pytest.raises(ValueError, match=r"a.pth: refused: it holds \w+\.system, .* nothing was"):
        weights.load(network(), path)
    assert not trace.exists()


def test_whole_networks_are_refused(tmp_path):
    torch.save(network(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"refused: it holds torch\.nn\.\S+\.Sequential"):
        weights.load(network(), tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    save = torch.save if path.suffix != ".safetensors" else save_file
    save(network().state_dict(), path)
    whole = path.read_bytes()
    for content in (b"", b"abc", whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=re.escape(f"{path}: not a readable ")):
            weights.load(network(), path)


@pytest.mark.parametrize("content", [[1], {"epoch": 3}, {1: torch.ones(1)}])
def test_files_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"no state dict found"):
        weights.load(network(), tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a readable safetensors file"),
        ("[]", "metadata: \\[\\] is not a mapping"),
        (
            '{"input": {"size": 3}, "classes": 2, "extra": {}}',
            "metadata.input.channels: is missing",
        ),
    ],
)
def test_damaged_metadata(tmp_path, text, message):
    save_file(network().state_dict(), tmp_path / "a.safetensors", metadata={"kdx": text})
    with pytest.raises(ValueError, match=message):
        weights.load(network(), tmp_path / "a.safetensors")


def test_files_of_others_say_nothing_of_their_input(tmp_path):
    save_file(network().state_dict(), tmp_path / "a.safetensors")
    assert weights.load(network(seed=1), tmp_path / "a.safetensors") is None


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone.pth: no such file"):
        weights.load(network(), tmp_path / "gone.pth")
    with pytest.raises(FileNotFoundError, match=r"has no student\.safetensors: not a finished"):
        weights.load(network(), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"runs/gone: no such file or run directory"):
        weights.load(network(), "runs/gone")


def test_other_suffixes(tmp_path):
    (tmp_path / "a.onnx").touch()
    with pytest.raises(ValueError, match=r"a\.onnx: not a run directory or a \.safetensors"):
        weights.load(network(), tmp_path / "a.onnx")


def test_an_input_may_be_higher_than_wide(tmp_path):
    spec = InputSpec(3, (48, 32), SPEC.mean, SPEC.std)
    weights.save(network(), tmp_path / "a.safetensors", input=spec, classes=2)
    assert weights.read_spec(tmp_path / "a.safetensors") == spec


def test_an_input_has_two_sides_at_most(tmp_path):
    spec = InputSpec(3, (48, 32, 16), SPEC.mean, SPEC.std)  # pyright: ignore[reportArgumentType]
    weights.save(network(), tmp_path / "a.safetensors", input=spec, classes=2)
    with pytest.raises(ValueError, match=r"input.size: \[48, 32, 16\] is not an integer"):
        weights.read_spec(tmp_path / "a.safetensors")
