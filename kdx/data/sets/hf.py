"""Hugging Face `datasets`: from disk, of parquet files, or from the hub."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdx.data.sets.labelling import Placed
from kdx.data.sets.reading import check_numbers
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
    size: int = 224,
    verify: bool | None = None,
    skip_bad: int = 0,
) -> ImageData:
    """Open images in Hugging Face's `datasets`, seen at size x size.

    `path` is what `save_to_disk` wrote, a folder of parquet files, or an id of the hub, with its
    configuration `name`. `train` and `test` are splits or, in a folder, patterns of parquet files
    ("train-*.parquet"). Parquet files are converted to Arrow in `cache_dir`, on disk; images stay
    encoded there, and are mapped into memory. `image` is a column of images, or of encoded ones;
    `label` one of ClassLabel, integers or names: see `number_classes`. `verify` and `skip_bad` are
    as of `image_folder`. ValueError lists, by split and row, what cannot be read or has no label.
    """
    check_numbers("hf", size=size, skip_bad=skip_bad)
    if train == test:
        raise ValueError(f"hf: train and test are both {train!r}")
    parts = {
        part: (split, _opened(path, name, split, cache_dir))
        for part, split in (("train", train), ("test", test))
    }
    placed, named = {}, classes
    for part, (split, dataset) in parts.items():
        _check_columns(f"hf: {path}: {split}", dataset.features, image, label)
        placed[part], names = _labels(split, dataset, label)
        named = named or names
    rows = [_rows(dataset, image) for _, dataset in parts.values()]
    return stored_data("hf", placed, rows, named, size=size, verify=verify, skip_bad=skip_bad)


def _opened(path: str, name: str | None, split: str, cache_dir: str | None) -> Any:
    """Return a map-style Dataset; ValueError says why it cannot be read."""
    try:
        import datasets  # here: an extra, and it takes as long to import as torch
    except ImportError as error:
        raise ValueError(f"hf: cannot import datasets: {error}: pip install 'kdx[hf]'") from error
    folder = Path(path, split)
    try:
        if (folder / "state.json").is_file():
            return datasets.load_from_disk(str(folder))
        if split.endswith(".parquet"):
            files = {"train": str(folder)}
            return datasets.load_dataset(
                "parquet", data_files=files, split="train", cache_dir=cache_dir
            )
        return datasets.load_dataset(path, name, split=split, cache_dir=cache_dir)
    except MemoryError:
        raise
    except Exception as error:  # of datasets, pyarrow, huggingface_hub, requests
        raise ValueError(f"hf: {path}: {split}: {error}") from error


def _check_columns(place: str, features: Any, image: str, label: str) -> None:
    from datasets import ClassLabel, Image, Value

    if missing := [name for name in (image, label) if name not in features]:
        columns = f"columns are {listed(list(features))}"
        raise ValueError(f"{place}: no column {listed(missing)}: {columns}; set image, label")
    kind = features[image]
    encoded = isinstance(kind, Value) and kind.dtype in ("binary", "large_binary")
    struct = isinstance(kind, dict) and "bytes" in kind
    if not (isinstance(kind, Image) or encoded or struct):
        raise ValueError(f"{place}: column {image!r} is {kind}, not of images, or of encoded ones")
    kind = features[label]
    whole = isinstance(kind, Value) and kind.dtype.startswith(("int", "uint", "string", "large_s"))
    if not (isinstance(kind, ClassLabel) or whole):
        raise ValueError(f"{place}: column {label!r} is {kind}, not ClassLabel, integer or string")


def _labels(split: str, dataset: Any, label: str) -> tuple[list[Placed], list[str] | None]:
    """Return place and label of each row, and the names of a ClassLabel."""
    values = dataset.select_columns([label]).with_format(None)[:][label]
    names = getattr(dataset.features[label], "names", None)
    if names is not None:
        values = ["" if v is None or not 0 <= v < len(names) else names[v] for v in values]
    placed: list[Placed] = [(f"{split}[{row}]", value) for row, value in enumerate(values)]
    if without := [place for place, value in placed if value in (None, "")]:
        count = counted(len(without), "row")
        raise ValueError(f"hf: {count} without a label in column {label!r}: {listed(without)}")
    return placed, names


def _rows(dataset: Any, image: str) -> Rows:
    from datasets import Image

    column = dataset.select_columns([image]).with_format(None)
    if isinstance(column.features[image], Image):
        column = column.cast_column(image, Image(decode=False))
    return Rows(column, image)
