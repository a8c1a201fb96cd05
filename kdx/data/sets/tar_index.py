"""The members of tar shards, by the offsets of their contents; a shard is read once."""

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from kdx.util.words import counted

BLOCK = 512  # bytes: a tar file consists of such blocks, and ends with blocks of zeros


class Member(NamedTuple):
    """A regular file in a tar: its name, where its content starts, and how long it is."""

    name: str
    offset: int
    size: int


@dataclass(eq=False)
class Shards:
    """Image files in tars; `places` has shard and member by the name "<shard>:<member>"."""

    files: Sequence[str]
    places: Mapping[str, tuple[str, Member]]

    def read(self, name: str) -> bytes:
        """Return the content of a member; ValueError if the shard is gone or was truncated."""
        return read_member(*self.places[name])


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
