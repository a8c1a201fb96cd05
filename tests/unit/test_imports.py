"""Who may import whom, over every file of the packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "tools": {"kdx", "kdx_lab", "rich"},
    "kdx_lab": {"kdx", "kdx_lab"},
    "expand": {"expand", "torch"},
    "teachers": {"teachers", "torch", "torchvision", "timm"},
}
OUTSIDE = ("benchmarks", "expand", "teachers", "tools")
USES_ACCELERATE = {
    "kdx/training/checkpointing.py",
    "kdx/training/runtime.py",
    "kdx/launch/processes.py",
    "kdx/launch/launcher.py",
}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no files in {package}"
    return found


def imported(path: Path) -> set[str]:
    """Return the dotted names of the modules, and of what is taken from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def breaches(path: Path, allowed) -> list[str]:
    where = path.relative_to(ROOT)
    return [f"{where} imports {name}" for name in sorted(imported(path)) if not allowed(name)]


def inside(name: str, *packages: str) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_what_they_may(package):
    known = MAY_IMPORT[package] | sys.stdlib_module_names
    for path in files(package):
        assert not breaches(path, lambda name: inside(name, *known))


def test_kdx_imports_nothing_of_what_stands_outside():
    for path in files("kdx"):
        assert not breaches(path, lambda name: not inside(name, *OUTSIDE))


@pytest.mark.parametrize("package", ["protocols", "detection"])
def test_contracts_and_the_arithmetic_of_boxes_import_nothing_else_of_kdx(package):
    def allowed(name):
        return inside(name, f"kdx.{package}") or not inside(name, "kdx")

    for path in files(f"kdx/{package}"):
        assert not breaches(path, allowed)


def test_losses_import_protocols_and_each_other_and_the_arithmetic_of_boxes():
    def allowed(name):
        known = inside(name, "kdx.protocols", "kdx.losses", "kdx.detection")
        return known or not inside(name, "kdx")

    for path in files("kdx/losses"):
        assert not breaches(path, allowed)


def test_accelerate_is_touched_by_the_loop_and_few_others():
    touching = {
        path.relative_to(ROOT).as_posix()
        for package in ("kdx", *MAY_IMPORT)
        for path in files(package)
        if any(inside(name, "accelerate") for name in imported(path))
    }
    assert touching <= USES_ACCELERATE


def test_tools_are_thin():
    for path in files("tools"):
        lines = len(path.read_text().splitlines())
        assert lines <= 60, f"{path.name} has {lines} lines"


LATE = (
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "accelerate",
    "torchmetrics",
    "tensorboard",
    "sklearn",
)
"""What takes long to import, so that not even an error in a recipe waits for it."""


def loaded(code: str) -> list[str]:
    """Return which of `LATE` a new Python has imported after `code`."""
    code += f"; import sys; print(*(name for name in {LATE} if name in sys.modules))"
    printed = subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True)
    return printed.splitlines()[-1].split()


def test_recipes_and_command_lines_wait_for_nothing_heavy():
    tools = "; ".join(f"import tools.{path.stem}" for path in files("tools"))
    assert loaded(f"import kdx; import kdx.commands.shared; import kdx.recipe; {tools}") == []


def test_a_run_imports_what_it_uses_alone():
    assert not {"timm", "torchvision", "sklearn", "torchmetrics"} & set(
        loaded("import kdx.run.run")
    )


def test_the_rules_see_every_kind_of_import(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import a.b as c\nfrom d import e, f\ndef g():\n    import h\n")
    assert imported(path) == {"a.b", "d.e", "d.f", "h"}
    path.write_text("from . import a\n")
    with pytest.raises(AssertionError, match=r"a.py:1: a relative import"):
        imported(path)
