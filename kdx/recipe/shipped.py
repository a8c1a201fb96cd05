"""The recipes and studies that come with kdx."""

from pathlib import Path


def folder() -> Path:
    """Return the folder of the shipped recipes: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped() -> dict[str, Path]:
    """Return the files of all recipes and studies, by name: `digits/smallnet3`."""
    paths = sorted(folder().glob("**/*.yaml"), key=lambda path: ("studies" in path.parts, path))
    return {path.relative_to(folder()).with_suffix("").as_posix(): path for path in paths}
