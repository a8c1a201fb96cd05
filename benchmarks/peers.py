"""kdx beside torchdistill and a plain PyTorch loop: the same pair, the same images, KD.

    python -m benchmarks.peers

Each contender is a process, and they run one at a time: a round is an epoch of each. All but kdx
first search for their best settings: data loader workers 0, 1, 2, OMP_NUM_THREADS 1, 2, transforms
of PIL images or of tensors. torchdistill is installed from PyPI into its own virtual environments,
which share torch with this one: 1.1.5 with a live teacher, and 1.1.4, the last version with a cache
of the teacher's outputs (one per image, whatever the view).
"""

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from rich.console import Console

from benchmarks.output import TableRow, options, selected, show, write
from benchmarks.peer_loops import Spec
from benchmarks.peer_process import Peer, environment
from kdx.commands.shared import guarded
from kdx_lab.complexity.rounds import interleave

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]
RECIPE = ROOT / "configs/fashion_mnist/resnet18_to_smallnet7_ck_fc_kd.yaml"
THREE = ("student.kernel_size=3",)
CL = ("student.transforms.0.conv=cl", "student.transforms.0.linear=false")
MEMO = "kdx, CL, memo"
LIVE = "kdx, CL, live teacher"
NOTE = """Medians of the rounds [quartiles]. memo / it, live / it: the speed of kdx's ExpandNet-CL,
with a memo and with a live teacher, over that of the row."""
Settings = Mapping[str, Any]
GRID: list[Settings] = [
    {"workers": workers, "threads": threads, "transforms": transforms}
    for workers, threads, transforms in product((0, 1, 2), (1, 2), ("tensor", "pil"))
]


@dataclass(frozen=True)
class PeerLoop:
    """A loop of `peer_loops`, fields of its `Spec`, and a version of torchdistill if it needs one.

    kdx's settings are its defaults; the others' are searched.
    """

    runtime: str
    fields: Mapping[str, bool] = field(default_factory=dict)
    version: str | None = None


CONTENDERS: Mapping[str, PeerLoop] = {
    "torchdistill 1.1.5, live teacher": PeerLoop("torchdistill", version="1.1.5"),
    "torchdistill 1.1.4, cached teacher": PeerLoop(
        "torchdistill", {"remembered": True}, version="1.1.4"
    ),
    "plain loop, live teacher": PeerLoop("plain"),
    "plain loop, CL unfolded, live teacher": PeerLoop("plain", {"expanded": True}),
    "kdx, compact, live teacher": PeerLoop("kdx"),
    LIVE: PeerLoop("kdx", {"expanded": True}),
    "kdx, compact, memo": PeerLoop("kdx", {"remembered": True}),
    MEMO: PeerLoop("kdx", {"expanded": True, "remembered": True}),
}


def main(arguments: list[str] | None = None) -> None:
    """Search the settings, run the rounds, print the table, write JSON with --json."""
    args = _parser().parse_args(arguments)
    console = Console()
    names = selected(list(CONTENDERS), args.only)
    with TemporaryDirectory() as directory, ExitStack() as stack:
        place = Path(directory)
        best = {name: _best(name, args, place, console) for name in names}
        peers = {
            name: stack.enter_context(_peer(name, best[name], args, place, args.limit))
            for name in names
        }
        rounds = interleave(lambda name: peers[name].run(), names, rounds=args.rounds)
    rows: list[TableRow] = [
        {
            "contender": name,
            "settings": _words(best[name]),
            "img/s": rounds.speed(name),
            "memo / it": rounds.ratio(MEMO, name) if MEMO in names else None,
            "live / it": rounds.ratio(LIVE, name) if LIVE in names else None,
        }
        for name in names
    ]
    title = f"ResNet-18 to SmallNet 3x3, {args.rounds} rounds of up to {args.limit:,} images"
    show(title, rows, console, note=NOTE)
    if args.json:
        write(args.json, rows, rounds=args.rounds, limit=args.limit, batch_size=args.batch_size)


def _parser() -> argparse.ArgumentParser:
    parser = options(__doc__, rounds=7)
    parser.add_argument("--batch-size", type=int, default=128, metavar="N", help="default: 128")
    parser.add_argument(
        "--limit", type=int, default=6400, metavar="N", help="images per round (default: 6400)"
    )
    parser.add_argument(
        "--search-limit", type=int, default=2560, metavar="N",
        help="images per epoch of the search for settings (default: 2560); 0: no search",
    )  # fmt: skip
    parser.add_argument(
        "--venv", type=Path, default=ROOT / "benchmarks/.venvs", metavar="DIR",
        help="where torchdistill is installed (default: benchmarks/.venvs)",
    )  # fmt: skip
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="a recipe with a teacher")
    return parser


def _best(name: str, args: argparse.Namespace, place: Path, console: Console) -> Settings:
    """Try every setting for an epoch, and return the fastest."""
    if CONTENDERS[name].runtime == "kdx":
        return {"threads": args.threads} if args.threads else {}
    if not args.search_limit:
        return {"workers": 0, "threads": args.threads or 1, "transforms": "tensor"}
    speeds = []
    for settings in GRID:
        with _peer(name, settings, args, place, args.search_limit) as peer:
            speeds.append(max(peer.run() for _ in range(2)))
        line = f"{name}: {_words(settings)}: {speeds[-1]:,.0f} img/s"
        console.print(line, highlight=False, soft_wrap=True)
    return GRID[speeds.index(max(speeds))]


def _peer(name: str, settings: Settings, args: argparse.Namespace, place: Path, limit: int) -> Peer:
    contender = CONTENDERS[name]
    common = (*THREE, *CL, f"data.limit={limit}", f"data.batch_size={args.batch_size}")
    own = {key: value for key, value in settings.items() if key != "threads"}
    fields: dict[str, Any] = own | dict(contender.fields)
    directory = Path(mkdtemp(dir=place))
    version = contender.version
    return Peer(
        contender.runtime,
        Spec(args.recipe.resolve(), directory, common, **fields),
        python=environment(args.venv, version) if version else sys.executable,
        threads=settings.get("threads"),
    )


def _words(settings: Settings) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items()) or "defaults"


if __name__ == "__main__":
    sys.exit(guarded(main))
