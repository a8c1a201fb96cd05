"""Splits of Hugging Face `datasets`, whole or in part, as files on this machine."""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdx.util.words import listed


class OpenedSplit(NamedTuple):
    """A split as it was given, its map-style Dataset, and its rows: name, first, end."""

    split: str
    dataset: Any
    ranges: Sequence[tuple[str, int, int]]


def open_split(
    path: str, name: str | None, split: str, cache_dir: str | None, streamed: Sequence[str]
) -> OpenedSplit:
    """Return a split, of which columns may be `streamed`; ValueError says why it cannot be read."""
    try:
        import datasets  # here: an extra, and it takes as long to import as torch
    except ImportError as error:
        raise ValueError(f"hf: cannot import datasets: {error}: pip install 'kdx[hf]'") from error
    folder = Path(path, split)
    ranges: list[tuple[str, int, int]] = []
    more: dict[str, Any]
    try:
        if (folder / "state.json").is_file():
            return OpenedSplit(split, datasets.load_from_disk(str(folder)), ranges)
        if (saved := Path(path, "dataset_dict.json")).is_file():
            known = listed(json.loads(saved.read_text(encoding="utf-8"))["splits"])
            raise ValueError(f"save_to_disk wrote the splits {known}, which are taken whole")
        source, part, more = path, split, {"cache_dir": cache_dir}
        if is_files := split.endswith(".parquet"):
            source, part, more["data_files"] = "parquet", "train", {"train": str(folder)}
        if streamed:
            builder = datasets.load_dataset_builder(source, name, **more)
            return _streamed(builder, split, part, streamed, cache_dir)
        dataset = datasets.load_dataset(source, name, split=part, **more)
        if dataset.info.splits and not is_files:
            sizes = {each: info.num_examples for each, info in dataset.info.splits.items()}
            found = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
            ranges = [(each.splitname, each.from_, each.to) for each in found]
        return OpenedSplit(split, dataset, ranges)
    except MemoryError:
        raise
    except Exception as error:  # of datasets, pyarrow, huggingface_hub, requests
        raise ValueError(f"hf: {path}: {split}: {error}") from error


def _streamed(
    builder: Any, split: str, part: str, columns: Sequence[str], cache_dir: str | None
) -> OpenedSplit:
    """Write columns of a split to Arrow files, unless they are there; see `open_split`.

    The key of the files is the builder's, which changes with the data, the rows and the columns.
    """
    import datasets
    from datasets.config import HF_DATASETS_CACHE

    found = re.fullmatch(r"([\w.-]+)(?:\[(\d*):(\d*)\])?", part)
    first, end = (int(found[2] or 0), int(found[3] or 2**62)) if found else (0, 0)
    if found is None or first >= end:
        raise ValueError("streaming takes a split, or rows of it counted from its start: train[:9]")
    stream = builder.as_streaming_dataset(split=found[1])
    features = stream.features or {}
    check_columns(f"{found[1]}", features, *columns)
    stream = stream.select_columns(list(columns))
    if isinstance(features[columns[0]], datasets.Image):
        stream = stream.cast_column(columns[0], datasets.Image(decode=False))
    stream = stream.skip(first).take(end - first)
    key = hashlib.sha256(repr((builder.cache_dir, part, columns)).encode()).hexdigest()[:32]
    dataset = datasets.Dataset.from_generator(
        stream.__iter__,
        features=stream.features,
        cache_dir=cache_dir or str(HF_DATASETS_CACHE),
        fingerprint=key,
    )
    known = [(found[1], first, first + len(dataset))] if part == split else []
    return OpenedSplit(split, dataset, known)


def check_columns(place: str, features: Any, image: str, label: str) -> None:
    """Raise ValueError unless there are columns of images and of labels, by their types."""
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
