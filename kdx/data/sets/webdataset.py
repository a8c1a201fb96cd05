"""Shards of WebDataset: tar files in which members of one name before the dot are a sample."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kdx.data.decode import suffixes
from kdx.data.sets.labelling import repeated
from kdx.data.sets.reading import check_numbers, read_each
from kdx.data.sets.stored import stored_data
from kdx.data.sets.tar_index import Member, Shards, read_member, read_members
from kdx.protocols import ImageData
from kdx.util.words import counted, listed

__all__ = ["webdataset"]

NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")  # of a member: its sample, and its extension
RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


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

    `train` and `test` are patterns of shards in `root`, as "train-{000..146}.tar" or "train-*.tar".
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
    parts = {part: _samples(paths, image, label) for part, paths in shards.items()}
    placed = {p: [(each.name, each.label) for each in found] for p, found in parts.items()}
    contents = [
        Shards(shards[part], {each.name: (each.shard, each.image) for each in found})
        for part, found in parts.items()
    ]
    return stored_data(
        *("webdataset", placed, contents, classes), size=size, verify=verify, skip_bad=skip_bad
    )


def _shards(root: str, part: str, pattern: str) -> list[str]:
    """Return the shards of a pattern; ValueError if there are none, or one of a range is absent."""
    found = RANGE.search(pattern)
    if found is None:
        shards = sorted(str(path) for path in Path(root).glob(pattern))
    else:
        first, last = found.groups()
        numbers = [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
        names = [pattern[: found.start()] + n + pattern[found.end() :] for n in numbers]
        shards = [str(Path(root, name)) for name in names]
    missing = [shard for shard in shards if not Path(shard).is_file()]
    if missing or not shards:
        none = f"no {listed(missing)}" if missing else "nothing fits"
        raise ValueError(f"webdataset: {part}: {pattern!r} in {root!r}: {none}")
    return shards


def _samples(shards: Sequence[str], image: str | None, label: str) -> list[Sample]:
    """Return the samples of all shards, in order; ValueError lists what is wrong with them."""
    found = read_each("webdataset", lambda s: list(_read(s, image, label)), shards, noun="shard")
    samples = [each for part in found for each in part]
    if not samples:
        raise ValueError(f"webdataset: no samples in {listed(shards)}")
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
