"""Images that are stored in other files, checked before they are trained on."""

from collections.abc import Sequence

import torch

from kdx.data.decode import decode, read_header
from kdx.data.sets.reading import opens_headers, sift
from kdx.data.sources import FileImages, stored
from kdx.data.splits import complement

__all__ = ["sift_stored"]


def sift_stored(
    origin: str, sources: Sequence[FileImages], *, verify: bool | None, skip_bad: int
) -> tuple[list[FileImages], list[str]]:
    """Return the sources without at most `skip_bad` unreadable images, and notes: see `sift`."""
    items = [(source, name) for source in sources for name in source.paths]
    if not opens_headers(len(items), verify=verify, skip_bad=skip_bad):
        return list(sources), []
    bad, notes = sift(
        origin,
        items,
        lambda item: decode(item[1], content=stored(item[0].content, item[1])),
        lambda item: read_header(item[1], content=stored(item[0].content, item[1])),
        skip_bad=skip_bad,
        name=lambda item: item[1],
    )
    if bad:
        kept = complement(torch.tensor(bad), len(items))
        first = len(sources[0])
        parts = kept[kept < first], kept[kept >= first] - first
        sources = [source.subset(part) for source, part in zip(sources, parts, strict=True)]
    return list(sources), notes
