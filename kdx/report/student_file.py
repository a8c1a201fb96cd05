"""What the exported student's file tells: the ranges of its weights, and what its outputs are."""

from dataclasses import dataclass
from math import nan
from pathlib import Path

from torch import Tensor

from kdx.models.weight_files import about_of, read
from kdx.models.weights import FILE_IN_RUN
from kdx.report.contents import Content, checked
from kdx.util.words import listed, naturally


@dataclass(frozen=True)
class WeightRange:
    """The weights of a layer: the largest |weight|, their standard deviation, and two ratios.

    int8 with one scale for the layer has steps of `largest` / 127, so `in_stds`, largest / std, is
    what outliers cost it. `channels` is the largest over the median of the output channels' own
    largest: what one scale for each channel gains (Nagel et al. 2019, "Data-free quantization
    through weight equalization and bias correction"). NaN if all, or half of the channels, are 0.
    """

    largest: float
    std: float
    in_stds: float
    channels: float


class _Facts(Content):
    target_mean: list[float]
    target_std: list[float]


class _Scales(Content):
    """The metadata of a regression's student; `kdx.training.job.Job.about` writes them."""

    class_names: list[str]
    facts: _Facts


def weight_ranges(run_dir: Path) -> dict[str, WeightRange]:
    """Return the range of each convolution and linear layer, by name; {} without a student.

    Those are weights [out, in, ...], as they are stored: a BatchNorm that follows is not folded
    into them. ValueError for a damaged file.
    """
    path = run_dir / FILE_IN_RUN
    entries = read(path).entries if path.is_file() else []
    layers = {
        name.removesuffix(".weight"): weight
        for name, weight in ((".".join(entry.keys), entry.value) for entry in entries)
        if name.endswith("weight") and weight.ndim > 1 and weight.numel()
    }
    return {name: _range(layers[name]) for name in sorted(layers, key=naturally)}


def _range(weight: Tensor) -> WeightRange:
    channels = weight.double().abs().flatten(1).amax(1)
    largest, middle = channels.max().item(), channels.median().item()
    std = weight.double().std(correction=0).item()
    in_stds, spread = (largest / each if each else nan for each in (std, middle))
    return WeightRange(largest, std, in_stds, spread)


def outputs_in_words(run_dir: Path) -> str:
    """Return what the outputs of a regression are; "" for other tasks, and without a student."""
    path = run_dir / FILE_IN_RUN
    extra = (about_of(path) or {}).get("extra", {}) if path.is_file() else {}
    try:
        found = checked(_Scales, extra)
    except ValueError:  # another task, of a plug-in
        return ""
    # Lists of unequal length are told as far as they go: the file may be anybody's.
    names, mean, std = found.class_names, found.facts.target_mean, found.facts.target_std
    if all(each == (0, 1) for each in zip(mean, std, strict=False)):
        return f"Its outputs are the numbers themselves: {listed(names)}."
    each = [f"{n}: mean {m:.6g}, std {s:.6g}" for n, m, s in zip(names, mean, std, strict=False)]
    return (
        "Its outputs are standardized, (number - mean) / std, so that a number is output x std + "
        f"mean. {listed(each, '; ')}. The file's metadata has them as target_mean and target_std."
    )
