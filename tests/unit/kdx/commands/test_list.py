import io

import pytest
from rich.console import Console

from kdx.commands.list import KINDS, catalogue, rows
from kdx.commands.main import main
from kdx.recipe.optimizing import Average
from kdx.recipe.registry import TABLES, resolve, table

PLUGIN = '''
"""A plug-in."""

from enum import Enum

import numpy as np
from torch import Tensor, nn

__all__ = ["Distance", "Odd", "number", "small", "untyped"]


class Distance:
    """The distance between logits."""

    def __init__(self, *, scale: float = 1.0, layers: list[str] | None = None) -> None: ...

    def __call__(self, student, teacher, target) -> Tensor: ...


def small(*, num_classes: int, width: int, **more: int) -> nn.Module:
    """Return a small network.

    It is not large.
    """


def untyped(*, a): ...


class Mode(Enum):
    A = "slow"


class Odd:
    """Has defaults that JSON cannot hold."""

    def __init__(self, *, mode: Mode = Mode.A, scale=np.ones(2), table={(0, 1): 2}) -> None: ...

    def __call__(self, student, teacher, target) -> Tensor: ...


number = 3
'''


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    package = tmp_path / "catalogued"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text(PLUGIN)
    (package / "broken.py").write_text("raise KeyboardInterrupt if False else OSError('no')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return "catalogued"


def test_averages_have_the_defaults_that_a_run_has(capsys):
    found = {entry.name: list(rows(entry)) for entry in catalogue("average")}
    assert found == {
        "ema": [("decay", "0.9998", "number or null"), ("start", "0.0", "number or null")],
        "swa": [("start", "0.75", "number or null")],
    }
    assert [Average(use="swa").follows(epoch, 4) for epoch in range(4)] == [False] * 3 + [True]
    main(["list", "averages"])
    assert "A moving average of the compact weights." in capsys.readouterr().out


@pytest.mark.parametrize("kind", TABLES)
def test_every_entry_resolves_and_has_a_line(kind):
    entries = catalogue(kind)
    names = [entry.name for entry in entries]
    assert names[: len(table(kind))] == list(table(kind))
    assert len(set(names)) == len(names) > 0
    for entry in entries:
        resolve(entry.name, kind, {"kdx", "expand", "quantize", "teachers"})
        assert entry.line


def test_the_arguments_are_those_of_the_signature():
    (kd,) = (entry for entry in catalogue("loss") if entry.name == "kd")
    assert [(a.name, a.required, a.default, a.provided) for a in kd.arguments] == [
        ("temperature", False, 4.0, False),
        ("standardize", False, False, False),
        ("num_classes", False, None, True),
    ]
    assert kd.arguments[0].schema == {"type": "number"}
    assert not kd.open
    assert list(rows(kd)) == [
        ("temperature", "4.0", "number"),
        ("standardize", "false", "true or false"),
    ]


def test_options_have_their_real_defaults():
    (entry,) = (entry for entry in catalogue("transform") if entry.name == "expand.ExpandNet")
    defaults = {argument.name: argument.default for argument in entry.arguments}
    assert (defaults["rate"], defaults["stem"], defaults["preset"]) == (4.0, "keep", None)
    assert "input_shape" not in [row[0] for row in rows(entry)]  # kdx passes it


def test_an_optimizer_needs_its_learning_rate_and_no_parameters():
    (sgd,) = (entry for entry in catalogue("optimizer") if entry.name == "SGD")
    required = {argument.name: argument.required for argument in sgd.arguments}
    assert required["lr"]
    assert not required["momentum"]
    assert "params" not in required


def test_plugins_are_listed_by_kind(plugin):
    added = {
        kind: [e for e in catalogue(kind, plugins=[plugin]) if e.name.startswith(plugin)]
        for kind in TABLES
    }
    found = {kind: [entry.name for entry in entries] for kind, entries in added.items() if entries}
    losses = [f"catalogued.parts.{name}" for name in ("Distance", "Odd")]
    assert found == {"loss": losses, "network": ["catalogued.parts.small"]}
    (network,) = added["network"]
    assert network.open
    assert network.line == "Return a small network."
    loss, _ = added["loss"]
    assert list(rows(loss)) == [
        ("scale", "1.0", "number"),
        ("layers", "null", "[string, ...] or null"),
    ]


def test_without_a_kind_all_names_are_listed(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(KINDS)
    assert any(line.startswith("losses: cross_entropy, kd, dkd, ") for line in lines)


def test_a_plugin_that_cannot_be_imported_is_an_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "raises_on_import.py").write_text("raise OSError('boom')")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["list", "losses", "--plugin", "raises_on_import"]) == 2
    message = "error: --plugin raises_on_import: cannot be imported: OSError: boom\n"
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize("what", KINDS)
def test_the_list_fits_the_terminal(what, columns, monkeypatch):
    console = Console(file=io.StringIO(), width=columns)
    monkeypatch.setattr("kdx.commands.list.terminal", lambda: console)
    assert main(["list", what]) == 0
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= columns
    names = [entry.name for entry in catalogue(KINDS[what])]
    assert [line.rstrip() for line in lines if not line.startswith(" ")] == names


def test_types_and_defaults_are_aligned(monkeypatch):
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr("kdx.commands.list.terminal", lambda: console)
    assert main(["list", "losses"]) == 0
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    start = lines.index("pkt")
    assert lines[start + 3 : start + 7] == [
        "    reduction      mean  mean, batchmean",
        "    student_layer  null  string",
        "    teacher_layer  null  string",
        "    layers         null  [[string, ...], ...]",
    ]


def test_markdown(capsys, plugin):
    assert main(["list", "networks", "--markdown", "--plugin", plugin]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["| network | argument | default | values |", "| --- | --- | --- | --- |"]
    assert lines[-1] == "| `catalogued.parts.small` | `width` | | integer |"
    assert all(line.count(" | ") + line.count(" | |") >= 3 for line in lines)


def test_defaults_of_a_plug_in_may_be_anything(plugin, capsys):
    assert main(["list", "losses", "--plugin", plugin]) == 0
    words = capsys.readouterr().out.split()
    assert {"slow", "[1.", "1.]", "{(0,"} <= {word.strip('"') for word in words}
