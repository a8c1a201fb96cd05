"""Operations of a training step (forward, backward, SGD): compact and folded.

    python -m benchmarks.operations

What an accelerator launches one by one: views are left out. The optimizer updates all parameters
in one operation of each kind, as it does by default on a GPU.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import expand
from benchmarks.cases import CASES, Case
from benchmarks.output import TableRow, selected, show, write
from kdx.commands.shared import guarded

__all__ = ["count", "main"]

VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "expand", "permute",
    "select", "slice", "split", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze",
    "view",
}  # fmt: skip
SHOWN = 6
IMAGES = 2


def main(arguments: list[str] | None = None) -> None:
    """Count the selected cases, print the table, write JSON with --json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", metavar="PATTERN", help="rows to count, e.g. *CL*")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures here")
    args = parser.parse_args(arguments)
    rows = [_row(name, CASES[name]) for name in selected(list(CASES), args.only)]
    show("Operations of a step", rows, Console())
    if args.json:
        write(args.json, rows)


def count(step: Callable[[], object]) -> Counter[str]:
    """Return the operations of `step` by name, without views."""
    with _Counting() as counting:
        step()
    return Counter({name: n for name, n in counting.found.items() if name not in VIEWS})


class _Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found = Counter[str]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def _row(name: str, case: Case) -> TableRow:
    compact = _counted(case, case.build())
    folded = _counted(case, expand.expand(case.build(), **expand.PRESETS[case.preset]))
    more = ", ".join(f"{n} {kind}" for kind, n in (folded - compact).most_common(SHOWN))
    before, after = compact.total(), folded.total()
    ratio = f"{after / before:.2f}"
    return {
        "case": name,
        "compact": str(before),
        "folded": str(after),
        "ratio": ratio,
        "more": more,
    }


def _counted(case: Case, network: nn.Module) -> Counter[str]:
    images, target = case.batch(network, IMAGES)
    optimizer = torch.optim.SGD(network.train().parameters(), lr=1e-4, momentum=0.9, foreach=True)

    def step() -> None:
        F.cross_entropy(network(images), target).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()  # allocates the momentum
    return count(step)


if __name__ == "__main__":
    sys.exit(guarded(main))
