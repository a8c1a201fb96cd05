"""Who may import whom, over every file of the packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from kdx.commands.main import VERBS

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "tools": {"kdx", "kdx_lab", "rich"},
    "expand": {"expand", "torch"},
    "quantize": {"quantize", "expand.copying", "torch"},
    "teachers": {"teachers", "torch", "torchvision", "timm"},
}
OUTSIDE = ("benchmarks", "expand", "kdx_lab", "quantize", "teachers", "tools")
USES_ACCELERATE = {
    "kdx/commands/launch.py",
    "kdx/training/state.py",
    "kdx/training/runtime.py",
    "kdx/training/trackers.py",
    "kdx/launch/machines.py",
    "kdx/launch/processes.py",
}


def files(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert found, f"no files in {package}"
    return found


def imported(path: Path) -> set[str]:
    """Return the dotted names of the modules, and of what is taken from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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


FLOORS = (
    {"protocols", "util"},
    {"checkpoints", "detection", "recipe"},
    {"losses"},
    {"tasks"},
    {"launch"},
    {"data"},
    {"models"},
    {"training"},
    {"memo", "report"},
    {"exporting"},
    {"run"},
    {"commands"},
)
"""The rooms of kdx from the ground up. A room imports from lower floors, never from its own."""

NARROW = {
    "protocols": set(),
    "detection": set(),
    "losses": {"protocols", "detection", "util"},
}
"""Rooms that may import less than their floor allows."""


def modules(*packages: str) -> dict[str, Path]:
    """Return the files of packages by their dotted names."""
    found = {}
    for package in packages:
        for path in files(package):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def test_every_room_has_a_floor_and_nothing_is_loose():
    rooms = {path.name for path in (ROOT / "kdx").iterdir() if (path / "__init__.py").exists()}
    assert rooms == set().union(*FLOORS)
    assert {path.name for path in (ROOT / "kdx").glob("*.py")} <= {"__init__.py", "__main__.py"}


@pytest.mark.parametrize("floor", range(len(FLOORS)))
def test_rooms_import_from_lower_floors_only(floor):
    lower = set().union(*FLOORS[:floor])
    for room in FLOORS[floor]:
        known = {f"kdx.{name}" for name in {room} | (NARROW.get(room, lower) & lower)}

        def allowed(name, known=known):
            return not inside(name, "kdx") or inside(name, *known)

        for path in files(f"kdx/{room}"):
            assert not breaches(path, allowed)


def test_no_file_imports_itself_in_a_circle():
    """Also not inside of functions; a package that imports its own files is what it holds."""
    known = modules("kdx", "kdx_lab", "expand", "quantize", "teachers")
    imports = {
        module: {
            name if name in known else name.rpartition(".")[0]
            for name in imported(path)
            if not (path.name == "__init__.py" and inside(name, module))
        }
        for module, path in known.items()
    }
    done: set[str] = set()

    def walk(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way[way.index(module) :], module))
        if module in known and module not in done:
            for name in imports[module]:
                walk(name, (*way, module))
            done.add(module)

    for module in known:
        walk(module, ())


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


def test_help_waits_for_nothing_heavy():
    """Of every command of kdx."""
    verbs = [verb for verb, (module, _) in VERBS.items() if inside(module, "kdx")]
    code = f"""if True:
        from kdx.commands.main import main
        main(["--help"])
        for verb in {verbs}:
            try:
                main([verb, "--help"])
            except SystemExit as exited:
                assert exited.code == 0
            else:
                raise AssertionError(verb)
    """
    assert loaded(f"exec({code!r})") == []


def test_a_run_imports_what_it_uses_alone():
    judged = "task = kdx.tasks.Classification(num_classes=2); device = torch.device('cpu')"
    judged += "; task.meter(device); task.class_meter(device)"
    found = loaded(f"import kdx.run.run, torch; {judged}")
    assert not {"timm", "torchvision", "sklearn", "torchmetrics"} & set(found)


def test_the_rules_see_every_kind_of_import(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("import a.b as c\nfrom d import e, f\ndef g():\n    import h\n")
    assert imported(path) == {"a.b", "d.e", "d.f", "h"}
    path.write_text("from . import a\n")
    with pytest.raises(AssertionError, match=r"a.py:1: a relative import"):
        imported(path)
