"""Where a network's weights are in a file, and what surrounds them.

A file is a tree of mappings with tensors at its leaves. A state dict under "state_dict", a
"module." before all names and a "backbone." before some are the same here: a prefix, below which
the network's names are.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Any

from torch import Tensor

from kdx.models.fit import Entry, Fit, Keys, fit
from kdx.util.words import counted, listed

INSERTED = {
    "module",  # DataParallel, DDP, AveragedModel
    "_orig_mod",  # torch.compile
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
}
"""What wrappers of torch and Lightning put into names, also in their middle."""

USUAL = {"state_dict", "model_state_dict", "model", "net", "network", *INSERTED}
"""Where a file has the weights as trained, if it has others (averaged ones, another network's)."""

_TRIED, _DEEPEST, _MOST = 20, 8, 100_000  # prefixes, levels, mappings


@dataclass(frozen=True)
class Contents:
    """The tensors of a file, and what else is at its top: keys, and objects that were not read."""

    entries: list[Entry]
    others: list[str]

    def described(self, entries: Iterable[Entry] | None = None, prefix: Keys = ()) -> str:
        """Return what `entries` (all) begin with, up to where they leave `prefix`."""
        count: Counter[str] = Counter()
        for entry in self.entries if entries is None else entries:
            count[".".join(entry.keys[: len(_shared(entry.keys, prefix)) + 1])] += 1
        groups = [f"{name!r} ({counted(number, 'tensor')})" for name, number in count.items()]
        return listed([*groups, *self.others])


def contents(content: Any, objects: list[str]) -> Contents:
    """Return the tensors in a file; ValueError without tensors, or if two have the same name."""
    entries = list(_entries(content))
    keys = list(content) if isinstance(content, Mapping) else []
    if not entries and objects:
        reason = f"refused: it holds {listed(objects)}, and only tensors are loaded"
        raise ValueError(f"{reason}; nothing was run. Save the network's state_dict() instead")
    if not entries and (keys or not isinstance(content, Mapping)):
        held = f"; it holds {listed([*map(repr, keys)])}" if keys else ""
        raise ValueError(f"no state dict found, at the top level or under any key{held}")
    count = Counter(entry.keys for entry in entries)
    if twice := [".".join(keys) for keys, number in count.items() if number > 1]:
        raise ValueError(f"two tensors are named {twice[0]!r}")
    leading = {keys[0] for keys in count}
    others = [repr(key) for key in keys if str(key).partition(".")[0] not in leading]
    return Contents(entries, others + [f"{name} (not read)" for name in objects])


def choose(
    found: Contents, own: Mapping[str, Tensor], *, key: str | None, new: Collection[str]
) -> tuple[Fit, str]:
    """Return the tensors for the network of the state dict `own`, and what to say of them.

    They are below the dotted `key`, or wrapped there; None is anywhere, and "" right at the top.
    `new` names tensors of the network that are not loaded. Where the network itself is a wrapper,
    its names may be without what they all begin with. Raises ValueError if there are no tensors, or
    if several state dicts fit.
    """
    chosen, note = _choose(found, own, key=key, new=new)
    names = [tuple(name.split(".")) for name in own]
    outer = _shared(min(names)[:-1], max(names)[:-1]) if len(names) > 1 else ()
    if not chosen.problems or not outer or key == "":
        return chosen, note
    start = f"{'.'.join(outer)}."
    inner = {name.removeprefix(start): value for name, value in own.items()}
    bare = [name.removeprefix(start) for name in new]
    within, other = _choose(found, inner, key=key, new=bare)
    if within.problems:
        return chosen, note
    tensors = {f"{start}{name}": value for name, value in within.tensors.items()}
    return replace(within, tensors=tensors), "; ".join(filter(None, (f"for {start[:-1]!r}", other)))


def _choose(
    found: Contents, own: Mapping[str, Tensor], *, key: str | None, new: Collection[str]
) -> tuple[Fit, str]:
    """As `choose`, by the names in `own`."""
    every, removed = _plain(found.entries, own)
    entries, start = every, tuple(key.split(".")) if key else ()
    if key:  # written with insertions or without
        pairs = zip(found.entries, every, strict=True)
        entries = [
            e for full, e in pairs if start in (full.keys[: len(start)], e.keys[: len(start)])
        ]
    if key and not entries:
        raise ValueError(f"key: no tensors below {key!r}; the file holds {found.described()}")
    tried: dict[Keys, Fit] = {}
    for prefix in _prefixes(entries, own) if entries and key != "" else [()]:
        size = len(prefix)
        below = [e for e in entries if e.keys[:size] == prefix and e.keys[size:]]
        tried[prefix] = fit({e.keys[size:]: e for e in below}, own, new)
    fitting = [prefix for prefix, each in tried.items() if not each.problems]
    usual = [prefix for prefix in fitting if USUAL.issuperset(prefix)]
    fitting = usual if len(usual) == 1 else fitting
    if len(fitting) > 1:
        places = listed([repr(".".join(prefix)) for prefix in fitting])
        remedy = "choose one: `weights: {path: ..., key: ...}`"
        raise ValueError(f"ambiguous: {len(fitting)} state dicts fit, at {places}: {remedy}")
    prefix = fitting[0] if fitting else next(iter(tried))
    size, chosen = len(prefix), tried[prefix]
    left = [e for e in every if e.keys[:size] != prefix or e.keys[size:] not in chosen.seen]
    notes = {
        "state dict at ": repr(".".join(prefix)) if prefix else "",
        "removed from names: ": listed(removed),
        "new, not loaded: ": listed(sorted(new)),
        "left out: ": listed(chosen.aside),
        "also in the file: ": found.described(left, prefix),
    }
    return chosen, "; ".join(f"{label}{text}" for label, text in notes.items() if text)


def _entries(content: Any) -> Iterator[Entry]:
    """Yield the tensors of nested mappings. Keys that are not text are those of optimizers."""
    waiting: list[tuple[Keys, Any]] = [((), content)]
    for path, mapping in waiting:  # grows
        for key, value in mapping.items() if isinstance(mapping, Mapping) else ():
            if isinstance(key, str) and isinstance(value, Tensor):
                yield Entry((*path, *key.split(".")), len(path), value)
            elif isinstance(key, str) and isinstance(value, Mapping) and len(path) < _DEEPEST:
                waiting.append(((*path, key), value))
        if len(waiting) > _MOST:
            raise ValueError(f"refused: it holds more than {_MOST:,} mappings")


def _plain(entries: list[Entry], own: Mapping[str, Tensor]) -> tuple[list[Entry], list[str]]:
    """Return the entries without what wrappers inserted in the middle of names, and what that was.

    At the beginning it is a prefix. What the network's own names contain stays, and so does
    everything if two names would become one.
    """
    inserted = INSERTED - {part for name in own for part in name.split(".")}
    plain, removed = [], set()
    for entry in entries:
        name = entry.keys[entry.depth :]
        begin = entry.depth + sum(1 for _ in takewhile(inserted.__contains__, name))
        removed |= inserted.intersection(entry.keys[begin:])
        kept = (key for key in entry.keys[begin:] if key not in inserted)
        plain.append(Entry((*entry.keys[:begin], *kept), entry.depth, entry.value))
    unique = len({entry.keys for entry in plain}) == len(entries)
    return (plain, sorted(removed)) if unique else (entries, [])


def _prefixes(entries: list[Entry], own: Mapping[str, Tensor]) -> list[Keys]:
    """Return the prefixes below which the network's names are, that of most names first."""
    count: Counter[Keys] = Counter()
    for entry in entries:
        for at in range(len(entry.keys)):
            if ".".join(entry.keys[at:]) in own:
                count[entry.keys[:at]] += 1
    names = [entry.keys[:-1] for entry in entries]
    return [prefix for prefix, _ in count.most_common(_TRIED)] or [_shared(min(names), max(names))]


def _shared(first: Keys, second: Keys) -> Keys:
    """Return what both begin with."""
    pairs = enumerate(zip(first, second, strict=False))  # as far as the shorter one goes
    return first[: next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))]
