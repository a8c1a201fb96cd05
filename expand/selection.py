"""Which layers a pattern means: module paths, as of `fnmatch`, or a kind such as `@depthwise`."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import cast

from torch import nn

from expand.layers import Site, geometry

__all__ = ["KINDS", "check_patterns", "matches", "patterns", "unselected"]

KINDS = ("@stem", "@depthwise", "@strided")


def patterns(given: str | Sequence[str] | None) -> list[str] | None:
    """Return the patterns as a list; None if it is None."""
    return [given] if isinstance(given, str) else None if given is None else list(given)


def matches(site: Site, wanted: Iterable[str]) -> bool:
    """Whether any pattern means the layer, by any path that it has."""
    return any(_means(pattern, site) for pattern in wanted)


def unselected(site: Site, select: list[str] | None, exclude: list[str] | None) -> str:
    """Say why the patterns leave the layer out; empty where they do not."""
    if matches(site, exclude or ()):
        return "excluded"
    return "" if select is None or matches(site, select) else "not selected"


def check_patterns(wanted: Iterable[str], sites: Sequence[Site]) -> None:
    """Raise ValueError for a pattern that means no layer, naming those that come near."""
    paths = [path for site in sites for path in site.paths]
    for pattern in wanted:
        if pattern.startswith("@") and pattern not in KINDS:
            raise ValueError(f"{pattern!r} is not a layer kind. Known: {', '.join(KINDS)}")
        if not any(_means(pattern, site) for site in sites):
            near = get_close_matches(pattern, paths, n=3) or paths[:8]
            raise ValueError(
                f"{pattern!r} matches no layer. Nearest of {len(sites)}: "
                f"{', '.join(near) if near else 'none, the network has no linear layers'}"
            )


def _means(pattern: str, site: Site) -> bool:
    if pattern.startswith("@"):
        return pattern in _kinds(site)
    return any(fnmatchcase(path, pattern) for path in site.paths)


def _kinds(site: Site) -> set[str]:
    shape = geometry(site.layer)
    if not shape.kernel:
        return set()
    kinds = {"@stem"} if site.is_stem else set()
    if shape.groups == shape.inputs > 1:
        kinds.add("@depthwise")
    if max(cast("nn.Conv2d", site.layer).stride) > 1:
        kinds.add("@strided")
    return kinds
