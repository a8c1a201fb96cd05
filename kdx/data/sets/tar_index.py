"""The members of tar shards, by the offsets of their contents; a shard is read once."""

import os
import tarfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from kdx.util.strings import Strings
from kdx.util.words import counted

BLOCK = 512  # bytes: a tar file consists of such blocks, and ends with blocks of zeros


class Member(NamedTuple):
    """A regular file in a tar: its name, where its content starts, and how long it is."""

    name: str
    offset: int
    size: int


class Shards:
    """Image files in the tars `files`: members, with their shards, by "<shard>:<member>"."""

    def __init__(self, files: Sequence[str], members: Iterable[tuple[str, Member]]) -> None:
        self.files, numbers = files, {shard: number for number, shard in enumerate(files)}
        rows = sorted((f"{s}:{each.name}", numbers[s], *each[1:]) for s, each in members)
        self._names = Strings(name for name, *_ in rows)
        self._places = np.array([place for _, *place in rows], dtype=np.int64)

    def read(self, name: str) -> bytes:
        """Return the content of a member; ValueError if the shard is gone or was truncated."""
        index, offset, size = map(int, self._places[bisect_left(self._names, name)])
        shard = self.files[index]
        return read_member(shard, Member(name[len(shard) + 1 :], offset, size))


def read_member(shard: str, member: Member) -> bytes:
    """Return the content of a member; ValueError as `Shards.read`."""
    try:
        with open(shard, "rb") as file:
            file.seek(member.offset)
            content = file.read(member.size)
    except OSError as error:
        raise ValueError(f"{shard}:{member.name}: {error.strerror}") from error
    if len(content) < member.size:
        found = f"{len(content):,} of {member.size:,} bytes at offset {member.offset:,}"
        raise ValueError(f"{shard}:{member.name}: the shard is truncated: {found}")
    return content


def read_members(shard: str) -> list[Member]:
    """Return the regular files in a tar, in order.

    ValueError with the offset for a tar that is damaged, truncated (also between two members) or
    compressed, in which nothing can be read at an offset.
    """
    try:
        with open(shard, "rb") as file:
            if file.read(2) == b"\x1f\x8b":
                raise ValueError(
                    f"{shard}: compressed: members of a .tar.gz have no offsets: unpack it to .tar"
                )
            file.seek(0)
            return list(_members(shard, file))
    except OSError as error:
        raise ValueError(f"{shard}: {error.strerror}") from error


def _members(shard: str, file: BinaryIO) -> Iterator[Member]:
    size = os.fstat(file.fileno()).st_size
    offset = 0
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while (each := tar.next()) is not None:
                offset = each.offset_data + -(-each.size // BLOCK) * BLOCK * each.isreg()
                if offset > size:
                    content = f"{each.name!r} has {counted(each.size, 'byte')} from offset"
                    ends = f"{each.offset_data:,}, but the file ends at {size:,}"
                    raise ValueError(f"{shard}: truncated: {content} {ends}")
                if each.issparse():
                    raise ValueError(f"{shard}: {each.name!r}: sparse members are not read")
                if each.isreg():
                    yield Member(each.name, each.offset_data, each.size)
            offset = tar.offset
    except tarfile.TarError as error:
        raise ValueError(f"{shard}: not a tar, or damaged at offset {offset:,}: {error}") from error
    file.seek(offset)  # at a damaged header tarfile stops as at the end
    block = file.read(BLOCK)
    if block != bytes(BLOCK):
        found = "damaged header" if len(block) == BLOCK else "truncated inside of a header"
        found = found if block else "truncated: no end of archive"
        raise ValueError(f"{shard}: {found} at offset {offset:,}")
