"""Hugging Face `datasets`: from disk, of parquet files, or from the hub."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdx.data.sets.hf_open import check_columns, open_split
from kdx.data.sets.labelling import Placed
from kdx.data.sets.reading import check_numbers, shared_images
from kdx.data.sets.stored import stored_data
from kdx.protocols import ImageData
from kdx.util.words import counted, listed

__all__ = ["hf"]


@dataclass(eq=False)
class Rows:
    """The encoded images in a column of a Dataset, memory-mapped; named "<split>[<row>]"."""

    dataset: Any
    column: str

    @property
    def files(self) -> Sequence[str]:
        """The Arrow files."""
        return list(dict.fromkeys(each["filename"] for each in self.dataset.cache_files))

    def read(self, name: str) -> bytes:
        """Return a row's image file; ValueError if it is missing."""
        row = int(name[name.rindex("[") + 1 : -1])
        value = self.dataset[row][self.column]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        try:
            content = Path(value).read_bytes() if isinstance(value, str) else value
        except OSError as error:
            raise ValueError(f"{name}: {value}: {error.strerror}") from error
        if not isinstance(content, bytes):
            raise ValueError(f"{name}: no image in column {self.column!r}")
        return content


def hf(
    *,
    path: str,
    name: str | None = None,
    train: str = "train",
    test: str = "test",
    image: str = "image",
    label: str = "label",
    classes: Sequence[str] | None = None,
    cache_dir: str | None = None,
    streaming: bool = False,
    size: int = 224,
    verify: bool | None = None,
    skip_bad: int = 0,
) -> ImageData:
    """Open images in Hugging Face's `datasets`, seen at size x size.

    `path` is what `save_to_disk` wrote, a folder of parquet files, or an id of the hub, with its
    configuration `name`. `train` and `test` are splits, slices of them ("train[:90%]") or, in a
    folder, patterns of parquet files ("train-*.parquet"). Parquet files are converted to Arrow in
    `cache_dir`, on disk; images stay encoded there, and are mapped into memory. Samples are read in
    random order, so that they have to be on this machine: `streaming` reads a split from its start,
    once, and writes only both columns of the rows of a slice ("train[:50000]"). `image` is a column
    of images, or of encoded ones; `label` one of ClassLabel, integers or names: see
    `number_classes`. Notes name rows of both parts. `verify` and `skip_bad` are
    as of `image_folder`. ValueError lists, by split and row, what cannot be read or has no label.
    """
    check_numbers("hf", size=size, skip_bad=skip_bad)
    if train == test:
        raise ValueError(f"hf: train and test are both {train!r}")
    patterns = [each for each in (train, test) if each.endswith(".parquet")]
    files = [{file.name for file in Path(path).glob(each)} for each in patterns]
    if len(files) == 2 and (both := sorted(files[0] & files[1])):
        raise ValueError(f"hf: {path}: parquet files of both train and test: {listed(both)}")
    parts = {
        part: open_split(path, name, split, cache_dir, (image, label) if streaming else ())
        for part, split in (("train", train), ("test", test))
    }
    placed, named = {}, classes
    for part, (split, dataset, _) in parts.items():
        check_columns(f"hf: {path}: {split}", dataset.features, image, label)
        placed[part], names = _labels(split, dataset, label)
        named = named or names
    every = [each for part in placed.values() for each in part]
    if without := [place for place, value in every if value in (None, "")]:
        count = counted(len(without), "row")
        raise ValueError(f"hf: {count} without a label in column {label!r}: {listed(without)}")
    rows = [_rows(each.dataset, image) for each in parts.values()]
    data = stored_data("hf", placed, rows, named, size=size, verify=verify, skip_bad=skip_bad)
    shared = [
        f"{name}[{row}]"
        for name, first, last in parts["train"].ranges
        for other, start, end in parts["test"].ranges
        for row in range(max(first, start), min(last, end))
        if name == other
    ]
    return replace(data, notes=[*shared_images("hf", shared, shared), *data.notes])


def _labels(split: str, dataset: Any, label: str) -> tuple[list[Placed], list[str] | None]:
    """Return place and label of each row, and the names of a ClassLabel."""
    values = dataset.select_columns([label]).with_format(None)[:][label]
    names = getattr(dataset.features[label], "names", None)
    if names is not None:
        values = ["" if v is None or not 0 <= v < len(names) else names[v] for v in values]
    return [(f"{split}[{row}]", value) for row, value in enumerate(values)], names


def _rows(dataset: Any, image: str) -> Rows:
    from datasets import Image

    column = dataset.select_columns([image]).with_format(None)
    if isinstance(column.features[image], Image):
        column = column.cast_column(image, Image(decode=False))
    return Rows(column, image)
