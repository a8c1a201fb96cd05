"""Shards of WebDataset: tar files in which members of one name before the dot are a sample."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kdx.data.decode import suffixes
from kdx.data.sets.reading import check_numbers, read_each
from kdx.data.sets.stored import stored_data
from kdx.data.sets.tar_index import Member, Shards, read_member, read_members
from kdx.protocols import ImageData
from kdx.util.words import counted, listed, repeated

__all__ = ["webdataset"]

NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # of a member: its sample, and its extension
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}")


class Sample(NamedTuple):
    """A sample's shard, its image, and its label as it is stored."""

    shard: str
    image: Member
    label: str | int

    @property
    def name(self) -> str:
        """The image's name: "train-000.tar:owls/1.jpg"."""
        return f"{self.shard}:{self.image.name}"


def webdataset(
    *,
    root: str,
    train: str,
    test: str,
    image: str | None = None,
    label: str = "cls",
    classes: Sequence[str] | None = None,
    size: int = 224,
    verify: bool | None = None,
    skip_bad: int = 0,
) -> ImageData:
    """Open the images in tar shards, seen at size x size.

    `train` and `test` are patterns of shards in `root`, as "train-{000..146}.tar", "{a,b}-*.tar".
    Members that follow each other and have the same name before its first dot are a sample:
    `image` is the extension of its image, by default any that Pillow reads, and `label` that of a
    text with its label, a name or an integer (see `number_classes`); "json:key" is a value in JSON.
    The offsets of all members are read now and kept, so that samples are read in any order.
    `verify` and `skip_bad` are as of `image_folder`. ValueError lists damaged shards, with the
    offset, and samples without image or label.
    """
    check_numbers("webdataset", size=size, skip_bad=skip_bad)
    shards = {part: _shards(root, part, text) for part, text in (("train", train), ("test", test))}
    if shared := sorted({*shards["train"]} & {*shards["test"]}):
        raise ValueError(f"webdataset: shards of both train and test: {listed(shared)}")
    image, label = image and image.lower().lstrip("."), label.lstrip(".")
    parts = _samples(shards, image, label)
    placed = {p: [(each.name, each.label) for each in found] for p, found in parts.items()}
    contents = [
        Shards(shards[part], [(each.shard, each.image) for each in found])
        for part, found in parts.items()
    ]
    how = {"size": size, "verify": verify, "skip_bad": skip_bad}
    return stored_data("webdataset", placed, contents, classes, **how)


def _shards(root: str, part: str, pattern: str) -> list[str]:
    """Return the shards of a pattern; ValueError if there are none, or one in braces is absent."""
    shards, missing = [], []
    for name in _expanded(pattern):
        if re.search(r"[*?\[]", name):
            shards += sorted(str(path) for path in Path(root).glob(name))
        else:
            shards.append(str(Path(root, name)))
            missing += [] if Path(shards[-1]).is_file() else shards[-1:]
    if missing or not shards:
        none = f"no {listed(missing)}" if missing else "nothing fits"
        there = sorted(path.name for path in Path(root).glob("*.tar"))
        advice = "write {000..146}, {a,b} or *; there are " + (listed(there) or "no .tar files")
        raise ValueError(f"webdataset: {part}: {pattern!r} in {root!r}: {none}; {advice}")
    return shards


def _expanded(pattern: str) -> list[str]:
    """Return the names that braces stand for: numbers, `{000..146}`, and lists, `{a,b}`."""
    found = BRACES.search(pattern)
    if found is None:
        return [pattern]
    first, last, names = found.groups()
    inner = (
        [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
        if names is None
        else names.split(",")
    )
    before, after = pattern[: found.start()], pattern[found.end() :]
    return [name for each in inner for name in _expanded(f"{before}{each}{after}")]


def _samples(
    parts: Mapping[str, Sequence[str]], image: str | None, label: str
) -> dict[str, list[Sample]]:
    """Return the samples of each part, in order; ValueError lists what is wrong in all shards."""
    every = [shard for shards in parts.values() for shard in shards]
    found = read_each("webdataset", lambda s: list(_read(s, image, label)), every, noun="shard")
    by_shard = dict(zip(every, found, strict=True))
    samples = {
        part: [each for s in shards for each in by_shard[s]] for part, shards in parts.items()
    }
    if empty := [part for part, each in samples.items() if not each]:
        raise ValueError(f"webdataset: no samples in {listed(parts[empty[0]])}")
    return samples


def _read(shard: str, image: str | None, label: str) -> Iterator[Sample]:
    """Yield the samples of a shard; ValueError lists those without one image and one label."""
    members = read_members(shard)
    if twice := repeated([each.name for each in members]):
        raise ValueError(f"{shard}: duplicate members: {listed(twice)}")
    matched = [(found, each) for each in members if (found := NAME.fullmatch(each.name))]
    problems = []
    for key, group in groupby(matched, key=lambda pair: pair[0][1]):
        by_kind = {found[2].lower(): each for found, each in group}
        try:
            yield Sample(shard, _image(by_kind, image), _label(shard, by_kind, label))
        except ValueError as error:
            problems.append(f"{key}: {error}")
    if problems:
        raise ValueError(f"{shard}: {counted(len(problems), 'sample')}: {listed(problems)}")


def _image(members: dict[str, Member], image: str | None) -> Member:
    known = [
        kind for kind in members if (f".{kind}" in suffixes() if image is None else kind == image)
    ]
    if len(known) != 1:
        wanted = f"no .{image}" if image else f"{counted(len(known), 'image')}, but one is needed"
        raise ValueError(f"{wanted}: it has {listed([f'.{kind}' for kind in members])}")
    return members[known[0]]


def _label(shard: str, members: dict[str, Member], label: str) -> str | int:
    kind, _, key = label.partition(":")
    if kind not in members:
        raise ValueError(f"no label .{kind}: it has {listed([f'.{name}' for name in members])}")
    try:
        text = read_member(shard, members[kind]).decode("utf-8-sig").strip()
        value = json.loads(text)[key] if key else text
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"no label in .{kind}: {type(error).__name__} {error}") from error
    if type(value) not in (str, int) or value == "":
        raise ValueError(f"label {value!r} in .{kind} is not a name or an integer")
    return value
