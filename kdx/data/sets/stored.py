"""Images, stored in other files or not, that are checked before they are trained on."""

from collections.abc import Mapping, Sequence

import torch

from kdx.data.files import Content, FileImages
from kdx.data.sets.labelling import Placed, number_classes
from kdx.data.sets.reading import MEAN, STD, attempt_each
from kdx.data.splits import complement
from kdx.protocols import ImageData, InputSpec
from kdx.util.words import counted, listed

VERIFY_AT_MOST = 100_000


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


def opens_headers(images: int, *, verify: bool | None, skip_bad: int) -> bool:
    """Return whether a set of so many `images` opens every header before it is trained on."""
    return bool(skip_bad or verify or (verify is None and images <= VERIFY_AT_MOST))


def sift_sources(
    origin: str, sources: Sequence[FileImages], *, verify: bool | None, skip_bad: int
) -> tuple[list[FileImages], list[str]]:
    """Return the sources without at most `skip_bad` unreadable images, and notes: see `sift`."""
    count = sum(map(len, sources))
    if not opens_headers(count, verify=verify, skip_bad=skip_bad):
        return list(sources), []
    bad, notes = sift(origin, sources, skip_bad=skip_bad)
    if bad:
        kept = complement(torch.tensor(bad), count)
        first = len(sources[0])
        parts = kept[kept < first], kept[kept >= first] - first
        sources = [source.subset(part) for source, part in zip(sources, parts, strict=True)]
    return list(sources), notes


def sift(
    origin: str, sources: Sequence[FileImages], *, skip_bad: int, places: Sequence[str] = ()
) -> tuple[list[int], list[str]]:
    """Return the numbers of unreadable images in all sources, at most `skip_bad`, and notes.

    Images are decoded if some may be left out, else their headers are read. Notes also count EXIF
    orientations. `places` of all images are what errors begin with. ValueError for more than
    `skip_bad`.
    """

    def read(image: tuple[FileImages, int]) -> bool:
        """Return whether it has an EXIF orientation."""
        source, index = image
        if skip_bad:
            source.decoded(index)
        return source.header(index).orientation > 1

    images = [(source, index) for source in sources for index in range(len(source))]
    results, notes = attempt_each(read, images), []
    found = zip(images, results, strict=True)
    if oriented := [source.name(index) for (source, index), result in found if result is True]:
        ignored = "with an EXIF orientation, which is ignored, as by torchvision's ImageFolder"
        count = counted(len(oriented), "image")
        notes.append(f"{origin}: {count} {ignored}: {listed(oriented)}")
    bad = {i: str(result) for i, result in enumerate(results) if isinstance(result, ValueError)}
    if not bad:
        return [], notes
    share = f"{len(bad):,} of {counted(len(images), 'file')}"
    problems = [f"{places[i]}: {problem}" if places else problem for i, problem in bad.items()]
    faulty = listed(problems, "; ")
    if len(bad) > skip_bad:
        raise ValueError(
            f"{origin}: {share} cannot be read: {faulty}. Repair or remove them, or leave them "
            f"out with skip_bad: {len(bad)} or more"
        )
    return list(bad), [*notes, f"{origin}: {share} left out, which cannot be read: {faulty}"]
