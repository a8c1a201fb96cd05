"""What the documentation tells a user to type, and where it links to."""

import re
from pathlib import Path

import pytest
import torch

from kdx.commands.main import VERBS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")),
    *sorted(ROOT.glob("docs/*.md")),
    ROOT / "configs/imagenet/README.md",
]


def pages():
    """Run a test on each page."""
    return pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


@pages()
def test_every_command_exists(page):
    text = page.read_text()
    typed = re.findall(r"(?:^ {4}|`|-m |\$ )kdx ([a-z][\w-]*)", text, re.M)
    assert {verb for verb in typed if verb not in VERBS} == set()


def test_the_readme_names_every_command():
    text = (ROOT / "README.md").read_text()
    assert [verb for verb in VERBS if f"`kdx {verb}`" not in text] == []


@pages()
def test_every_link_leads_somewhere(page):
    broken = []
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_readmes_tree_is_the_house():
    tree = (ROOT / "README.md").read_text().partition("## The house\n")[2]
    shown = set(re.findall(r"^ {6}(\w+)/ ", tree, re.M))
    rooms = {path.parent.name for path in ROOT.glob("kdx/*/__init__.py")}
    assert shown == rooms
    parts = set(re.findall(r"^ {4}(\w+)/ ", tree, re.M))
    assert all((ROOT / name).is_dir() for name in parts)
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} <= parts


def test_the_readmes_python_runs(tmp_path, monkeypatch):
    code = re.search(r"```python\n(import kdx\n.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    namespace: dict = {}
    exec(code.group(1).replace("epochs=5", "epochs=1, quiet=True"), namespace)
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        trained, loaded = namespace["run"].student(images), namespace["student"](images)
    assert torch.equal(trained, loaded)
