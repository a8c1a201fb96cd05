"""Names in a recipe: which are resolved, which refused."""

import re
import sys
from importlib.metadata import EntryPoint

import pytest
import torch

from kdx.recipe import registry as names
from kdx.recipe.kinds import lack
from kdx.recipe.registry import allow, allowed_modules, resolve, table

ALLOWED = frozenset({"kdx", "expand", "teachers", "recipe_plugin"})


@pytest.mark.parametrize(
    "use",
    [
        "os.system",
        "subprocess.Popen",
        "builtins.eval",
        "importlib.import_module",
        "torch.load",
        "kdxx.thing",
        "recipe_plugin_b.Net",
        "recipe_plug.in",
    ],
)
def test_a_name_outside_the_allowed_modules_is_refused(plugin, use):
    root = use.partition(".")[0]
    with pytest.raises(
        ValueError, match=rf"outside the modules .* allow it with --plugin {root} .pl"
    ):
        resolve(use, "network", ALLOWED)


def test_what_is_known_fits():
    known = "Known: ACNet, DBB, DOConv, ExpandNet, MobileOne, OREPA, RepVGG"
    with pytest.raises(ValueError, match=rf"not in __all__ of 'expand'\. {known}$"):
        resolve("expand.Int8", "transform", ALLOWED)


def test_a_public_name_that_cannot_be_read_is_not_among_the_known(tmp_path, monkeypatch):
    source = "__all__ = ['Net', 'Extra']\nfrom torch.nn import Identity as Net\n"
    source += "def __getattr__(name): raise ImportError(name)\n"
    (tmp_path / "partial_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"'Nought' is not in __all__ .* Known: Net$"):
        resolve("partial_plugin.Nought", "network", {"partial_plugin"})
    sys.modules.pop("partial_plugin")


def test_a_module_that_is_not_allowed_is_not_even_imported(tmp_path, monkeypatch):
    (tmp_path / "hostile_plugin.py").write_text("__all__ = ['net']\ndef net(): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="outside the modules that a recipe may use"):
        resolve("hostile_plugin.net", "network", ALLOWED)
    assert "hostile_plugin" not in sys.modules
    resolve("hostile_plugin.net", "network", {"hostile_plugin"})
    assert sys.modules.pop("hostile_plugin")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("kdx.recipe.registry.importlib", "module 'kdx.recipe.registry' has no __all__ that"),
        ("recipe_plugin.os", "'os' is not in __all__ of 'recipe_plugin'. Known: Net, Picky,"),
        ("recipe_plugin.Nett", "not in __all__ of 'recipe_plugin'. Did you mean 'Net'?"),
        ("recipe_plugin.absent", "cannot import 'absent' from 'recipe_plugin': AttributeError"),
        ("recipe_plugin.os.system", "cannot import 'recipe_plugin.os': ModuleNotFoundError"),
        ("kdx.nothing.Net", "cannot import 'kdx.nothing': ModuleNotFoundError: No module named"),
        ("recipe_plugin..Net", "is not a dotted name such as expand.ExpandNet"),
        (".Net", "is not a dotted name such as expand.ExpandNet"),
        ("recipe_plugin.os;system", "is not a dotted name such as expand.ExpandNet"),
    ],
)
def test_only_public_names_of_importable_modules_are_resolved(plugin, use, message):
    with pytest.raises(ValueError, match=r".") as raised:
        resolve(use, "network", ALLOWED)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def net(): ...", "'odd_plugin.net': module 'odd_plugin' has no __all__ that makes names"),
        ("raise OSError('no\\ndisk')", "cannot import 'odd_plugin': OSError: no\ndisk"),
        ("1 +", "cannot import 'odd_plugin': SyntaxError: invalid syntax"),
        ("import sys; sys.exit(0)", "cannot import 'odd_plugin': SystemExit: 0"),
        ("__all__ = 3", "'odd_plugin.net': __all__ of 'odd_plugin' is no list of names"),
    ],
)
def test_a_plugin_that_is_not_usable(tmp_path, monkeypatch, source, message):
    (tmp_path / "odd_plugin.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r".") as raised:
        resolve("odd_plugin.net", "network", {"odd_plugin"})
    sys.modules.pop("odd_plugin", None)
    assert message in str(raised.value)


def test_a_plugin_allows_its_submodules_and_nothing_above(plugin):
    sub = frozenset({"recipe_plugin.sub"})
    with pytest.raises(ValueError, match="outside the modules"):
        resolve("recipe_plugin.Net", "network", sub)
    with pytest.raises(ValueError, match=r"cannot import 'recipe_plugin.sub.deep'"):
        resolve("recipe_plugin.sub.deep.Net", "network", sub)


def test_installed_packages_declare_their_modules(monkeypatch):
    declared = [EntryPoint("a", "my_pkg.losses", "kdx.plugins"), EntryPoint("b", "b:c", "")]
    monkeypatch.setattr(names, "entry_points", lambda group: declared)
    own = {"kdx", "expand", "quantize", "teachers"}
    assert allowed_modules(["mine"]) == own | {"mine", "my_pkg.losses", "b"}


@pytest.mark.parametrize(
    ("use", "kind", "lacks"),
    [
        ("Blur", "loss", "a loss: a Blur is not a callable (student, teacher, target) -> Tensor"),
        ("Net", "loss", "a loss: a Net is not a callable (student, teacher, target) -> Tensor"),
        ("Digits", "loss", "a loss: a Digits is not a callable (student, teacher, target)"),
        ("Blur", "network", "a network: a Blur is not an nn.Module with forward(images)"),
        ("CrossEntropy", "network", "a network: a CrossEntropy is not an nn.Module with forward"),
        ("Bad", "transform", "a transform: a Bad is not an object with apply(student), enter(st"),
        ("Net", "transform", "a transform: a Net is not an object with apply(student), enter(st"),
        ("Net", "dataset", "a dataset: a Net is not a kdx.protocols.ImageData"),
        ("Blur", "schedule", "a schedule: a Blur is not a callable (step, steps, steps_per_epoch)"),
        ("CrossEntropy", "schedule", "a schedule: a CrossEntropy is not a callable (step, steps,"),
        ("net", "optimizer", "an optimizer: it returns a Module, not a torch.optim.Optimizer"),
        ("net", "dataset", "a dataset: it returns a Module, not a kdx.protocols.ImageData"),
        ("number", "network", "a network: it is an int, which cannot be called"),
        ("maybe", "loss", "a loss: it returns a recipe_plugin.Term | None, not a callable (stud"),
        ("sizes", "network", "a network: it returns a dict[str, int], not an nn.Module with for"),
        ("sizes", "schedule", "a schedule: it returns a dict[str, int], not a callable (step, st"),
        ("net", "loss", "a loss: it returns a Module, not a callable (student, teacher, target)"),
        ("Tensorial", "schedule", "a schedule: a Tensorial is not a callable (step, steps, step"),
        ("Numeric", "loss", "a loss: a Numeric is not a callable (student, teacher, target)"),
    ],
)
def test_a_name_of_another_kind_is_refused(plugin, use, kind, lacks):
    with pytest.raises(ValueError, match=r".") as raised:
        resolve(f"recipe_plugin.{use}", kind, ALLOWED)
    assert f"'recipe_plugin.{use}' is not {lacks}" in str(raised.value)


@pytest.mark.parametrize(
    ("use", "kind"),
    [
        ("Blur", "transform"),
        ("blur", "transform"),
        ("Term", "loss"),
        ("Tensorial", "loss"),
        ("Numeric", "schedule"),
        ("either", "loss"),
        ("anything", "dataset"),
        ("untold", "optimizer"),
        ("CrossEntropy", "loss"),
        ("Net", "network"),
        ("net", "network"),
        ("Vague", "loss"),
        ("digits", "dataset"),
        ("multistep", "schedule"),
        ("stepped", "schedule"),
    ],
)
def test_a_name_of_its_kind_is_resolved(plugin, use, kind):
    assert resolve(f"recipe_plugin.{use}", kind, ALLOWED) is getattr(plugin, use)


def test_a_function_of_kdx_that_makes_something_else_is_refused(plugin):
    with pytest.raises(ValueError, match=r"not a dataset: it returns a Recipe, not a kdx"):
        resolve("kdx.recipe.load", "dataset", ALLOWED)


@pytest.mark.parametrize(
    ("use", "kind", "returned"),
    [
        ("kdx.data.sets.unpickle.read_pickle", "dataset", "a dict[str, typing.Any]"),
        ("expand.network.units", "transform", "a collections.abc.Iterator[tuple[str,"),
        ("expand.chains.Strategy", "network", "it has no return annotation"),
        ("teachers.timm", "loss", "it returns a Module, not a callable"),
        ("kdx.losses.kd.KD", "schedule", "a KD is not a callable (step, steps"),
        ("kdx.training.schedules.Schedule", "loss", "a Schedule is not a callable"),
    ],
)
def test_only_what_shows_its_kind_is_taken_from_kdx_itself(use, kind, returned):
    with pytest.raises(ValueError, match=r".") as raised:
        resolve(use, kind, ALLOWED)
    assert returned in str(raised.value)


def test_functions_of_kdx_must_say_what_they_return(plugin, monkeypatch):
    monkeypatch.setattr(names, "HOUSE", {"recipe_plugin"})
    for use in ("anything", "multistep", "untold"):
        with pytest.raises(ValueError, match=r"is not a schedule: it has no return annotation"):
            resolve(f"recipe_plugin.{use}", "schedule", ALLOWED)
    assert resolve("recipe_plugin.stepped", "schedule", ALLOWED) is plugin.stepped
    assert resolve("multistep", "schedule", ALLOWED) is plugin.multistep


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        ("kdx.students.smallnet", "kdx.models.students.smallnet", "network"),
        ("kdx.schedules.cosine", "kdx.training.schedules.cosine", "schedule"),
        ("kdx.students.imagenet.mobilenet", "mobilenet", "network"),
        ("kdx.data.digits", "digits", "dataset"),
        ("kdx.data.sets.cifar.cifar10", "cifar10", "dataset"),
        ("kdx.losses.KD", "kd", "loss"),
        ("kdx.losses.kd.KD", "kd", "loss"),
    ],
)
def test_names_of_moved_modules_still_resolve(old, new, kind):
    assert resolve(old, kind, ALLOWED) is resolve(new, kind, ALLOWED)


@pytest.mark.parametrize("kind", names.TABLES)
def test_a_bare_name_is_resolved_by_the_table_of_its_kind(kind):
    known = table(kind)
    assert bool(known) is (kind != "transform")
    assert all(resolve(name, kind, ()) is factory for name, factory in known.items())


def test_every_optimizer_of_torch_has_a_bare_name():
    assert resolve("AdamW", "optimizer", ()) is torch.optim.AdamW
    with pytest.raises(ValueError, match="'Optimizer' is not an optimizer"):
        resolve("Optimizer", "optimizer", ())


def test_plug_ins_are_names_of_modules_that_exist(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "my_plugin.py").write_text("raise OSError('imported')")
    allow(["my_plugin", "tests.toys"])
    for name in ("my_plugin.py", "nosuch_plugin", "", ".my_plugin"):
        with pytest.raises(ValueError, match=f"^--plugin {re.escape(name)}: no such module: give"):
            allow([name])


@pytest.mark.parametrize(
    "call",
    [
        lambda self, student, teacher, target, indices: None,
        lambda self, student, teacher, target, *, epoch, indices: None,
    ],
)
def test_a_loss_may_require_what_it_asks_for(call):
    assert lack(type("Asking", (), {"__call__": call}), "loss") is None
    other = type("Other", (), {"__call__": lambda self, student, teacher, target, images: None})
    assert "is not a callable" in lack(other, "loss")


def test_the_names_of_plug_ins_are_a_list():
    with pytest.raises(ValueError, match=r"plugins: 'mine' is a string: pass a list, \['mine'\]"):
        allow("mine")
