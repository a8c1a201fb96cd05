"""Expand the architectures of timm, and see that compressing gives the very same network back.

    python -m tests.zoo --sample 200 --output docs/zoo.md      # `make zoo`

Each network gets random weights and warmed-up BatchNorm; folded against compressed, in float32 and
float64, as a share of the largest logit. Results are appended to a .jsonl beside the output, and
what stands there is not tried again.
"""

import argparse
import gc
import json
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import timm
import torch
from torch import nn

import expand
from expand.settings import Conv

MODES: list[tuple[Conv, bool]] = [
    ("auto", False),
    ("cl", False),
    ("ck", False),
    ("none", True),
    ("auto", True),
]
LARGEST = 60_000_000  # parameters, compact: what fits into memory expanded, in float64


@dataclass
class Result:
    """One architecture under one plan; `outcome` says why there are no errors to show."""

    name: str
    conv: str
    linear: bool
    expanded: int = 0
    left_alone: dict[str, int] | None = None
    float32: float | None = None
    float64: float | None = None
    outcome: str = "ok"


def check(name: str, conv: Conv, linear: bool, *, rate: float = 1.5) -> Result:
    """Expand, warm up, compress, compare; raises AssertionError where the networks differ."""
    torch.manual_seed(0)
    result = Result(name, conv, linear)
    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    planned = expand.plan(model, conv, linear=linear, rate=rate)
    result.expanded = len(planned.expanded)
    result.left_alone = dict(Counter(row.reason for row in planned if row.reason))
    if not planned.expanded:
        result.outcome = "nothing to expand"
        return result
    expanded = expand.expand(model, conv, linear=linear, rate=rate, init="scaled")
    _compare(result, model, expanded, expand.compress)
    return result


def check_transform(name: str, transform: Any) -> Result:
    """Do the same with a student transform, such as `expand.DBB()`."""
    torch.manual_seed(0)
    result = Result(name, type(transform).__name__, False)
    model = timm.create_model(name, pretrained=False, num_classes=10).eval()
    reasons = [row.reason for row in transform.plan(model).rows]
    result.expanded = reasons.count("")
    result.left_alone = dict(Counter(filter(None, reasons)))
    _compare(result, model, transform.apply(model), transform.restore)
    return result


def _compare(
    result: Result, model: nn.Module, expanded: nn.Module, restore: Callable[[nn.Module], nn.Module]
) -> None:
    images = torch.rand(2, *_input(model))
    warm_up(expanded, images)
    compact = restore(expanded)
    assert list(compact.state_dict()) == list(model.state_dict()), "other state-dict keys"
    classes = [type(m) for m in compact.modules()]
    assert classes == [type(m) for m in model.modules()], "other classes"
    result.float32 = _error(expanded, compact, images)
    result.float64 = _error(expanded.double(), restore(expanded), images.double())


def warm_up(model: nn.Module, images: torch.Tensor) -> None:
    """Give BatchNorm statistics other than those of its birth."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.train()
        norm.momentum = 0.5
    with torch.no_grad():
        model(images)
    model.eval()


@torch.no_grad()
def _error(expanded: nn.Module, compact: nn.Module, images: torch.Tensor) -> float:
    first, second = expanded(images), compact(images)
    return ((first - second).abs().max() / second.abs().max().clamp(min=1e-30)).item()


def _input(model: nn.Module) -> tuple[int, int, int]:
    """The input size that the architecture is fixed to, else a small one."""
    config = cast("Mapping[str, Any]", model.pretrained_cfg)
    if config.get("fixed_input_size"):
        return config["input_size"]
    channels, height, width = config["input_size"]
    return config.get("min_input_size") or (channels, min(height, 96), min(width, 96))


def run(names: list[str], log: Path, seconds: float) -> None:
    """Try architectures until the time is up, one line of the log each."""
    done = {(r["name"], r["conv"], r["linear"]) for r in _read(log)}
    started = time.monotonic()
    for index, name in enumerate(names):
        conv, linear = MODES[index % len(MODES)]
        if (name, conv, linear) in done:
            continue
        if time.monotonic() - started > seconds:
            return
        try:
            with torch.device("meta"):
                size = sum(p.numel() for p in timm.create_model(name, num_classes=10).parameters())
        except (RuntimeError, NotImplementedError):  # not every network can be built without data
            size = 0
        result = Result(name, conv, linear, outcome=f"not tried: {size:,} parameters")
        if size <= LARGEST:
            try:
                result = check(name, conv, linear)
            except Exception as error:
                said = (str(error).splitlines() or [""])[0]
                result.outcome = f"{type(error).__name__}: {said[:150]}"
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        print(f"{index + 1}/{len(names)} {name} {conv} {linear}: {result.outcome} "
              f"{result.expanded} {result.float32} {result.float64}", flush=True)  # fmt: skip
        gc.collect()


def _read(log: Path) -> list[dict]:
    return (
        [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
        if log.exists()
        else []
    )


def report(log: Path, total: int) -> str:
    """Return the table of docs/zoo.md."""
    results = [Result(**r) for r in _read(log)]
    tried = [r for r in results if r.float32 is not None]
    reasons = Counter()
    for result in tried:
        reasons.update(result.left_alone)
    worst = {kind: max(tried, key=lambda r: getattr(r, kind)) for kind in ("float32", "float64")}
    other = Counter(r.outcome.split(":")[0] for r in results if r.float32 is None)
    lines = [
        "# The zoo",
        "",
        f"`make zoo`: a random sample of timm {timm.__version__}'s {total:,} architectures, random "
        "weights, BatchNorm warmed up, rate 1.5, folded against compressed; "
        f"torch {torch.__version__}, CPU.",
        "",
        "| | |",
        "| --- | --- |",
        f"| architectures compared | {len(tried)} |",
        f"| expanded layers | {sum(r.expanded for r in tried):,} |",
        *(f"| worst error, {kind}, of the largest logit | {getattr(r, kind):.1e} ({r.name}) |"
          for kind, r in worst.items()),
        *(f"| {outcome} | {count} |" for outcome, count in other.most_common()),
        "",
        "Errors are rounding errors, larger if a network is ill-conditioned. "
        "resnetv2_50d_frn always computes its norms in float32 "
        "(timm's FilterResponseNorm), hence its float64 figure. Networks above "
        f"{LARGEST:,} parameters are skipped because of their memory.",
        "",
        "Layers not expanded:",
        "",
        "| reason | layers |",
        "| --- | --- |",
        *(f"| {reason} | {count:,} |" for reason, count in reasons.most_common()),
        "",
        "| architecture | conv | linear | expanded | float32 | float64 |",
        "| --- | --- | --- | --- | --- | --- |",
        *map(_row, sorted(filter(_says_something, results), key=lambda r: r.name)),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _says_something(r: Result) -> bool:
    """Whether it was compared, or failed."""
    return r.float32 is not None or not r.outcome.startswith(("not tried", "nothing to expand"))


def _row(r: Result) -> str:
    errors = f"{r.outcome} | |" if r.float32 is None else f"{r.float32:.1e} | {r.float64:.1e} |"
    return f"| {r.name} | {r.conv} | {str(r.linear).lower()} | {r.expanded} | {errors}"


def main() -> None:
    """Run a sample and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--output", type=Path, default=Path("docs/zoo.md"))
    args = parser.parse_args()
    every = timm.list_models()
    names = random.Random(args.seed).sample(every, min(args.sample, len(every)))
    log = Path("runs") / args.output.with_suffix(".jsonl").name
    log.parent.mkdir(exist_ok=True)
    run(names, log, args.minutes * 60)
    args.output.write_text(report(log, len(every)))
    print(
        f"{args.output}; peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    )


if __name__ == "__main__":
    main()
