"""Images, stored in other files or not, that are checked before they are trained on."""

from collections.abc import Mapping, Sequence

import torch

from kdx.data.sets.labelling import Placed, number_classes
from kdx.data.sets.reading import MEAN, STD, opens_headers, sift
from kdx.data.sources import Content, FileImages
from kdx.data.splits import complement
from kdx.protocols import ImageData, InputSpec

__all__ = ["sift_sources", "stored_data"]


def stored_data(
    origin: str,
    placed: Mapping[str, Sequence[Placed]],
    contents: Sequence[Content],
    classes: Sequence[str] | None,
    *,
    size: int,
    verify: bool | None,
    skip_bad: int,
) -> ImageData:
    """Return the data set of images that are named by their places in the `contents` of a split.

    See `number_classes` for the labels and `sift` for unreadable images.
    """
    names, labels, notes = number_classes(origin, placed, classes)
    sources = [
        FileImages([name for name, _ in part], numbers, content)
        for part, numbers, content in zip(placed.values(), labels, contents, strict=True)
    ]
    sources, more = sift_sources(origin, sources, verify=verify, skip_bad=skip_bad)
    spec = InputSpec(3, size, MEAN, STD)
    return ImageData(*sources, classes=names, input=spec, notes=[*notes, *more])


def sift_sources(
    origin: str, sources: Sequence[FileImages], *, verify: bool | None, skip_bad: int
) -> tuple[list[FileImages], list[str]]:
    """Return the sources without at most `skip_bad` unreadable images, and notes: see `sift`."""
    items = [(source, index) for source in sources for index in range(len(source))]
    if not opens_headers(len(items), verify=verify, skip_bad=skip_bad):
        return list(sources), []
    bad, notes = sift(
        origin,
        items,
        lambda item: item[0].decoded(item[1]),
        lambda item: item[0].header(item[1]),
        skip_bad=skip_bad,
        name=lambda item: item[0].name(item[1]),
    )
    if bad:
        kept = complement(torch.tensor(bad), len(items))
        first = len(sources[0])
        parts = kept[kept < first], kept[kept >= first] - first
        sources = [source.subset(part) for source, part in zip(sources, parts, strict=True)]
    return list(sources), notes
