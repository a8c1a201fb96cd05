"""A run on a machine that shares no files with the one that conducts the study."""

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from kdx_lab.executors.artifacts import packed, unpacked
from kdx_lab.executors.task import RunProcess, Task

__all__ = ["Artifact", "Update", "train"]

PAUSE = 1.0  # seconds between two looks
MOST = 2**30  # bytes of a memo that is sent back


@dataclass(frozen=True)
class Artifact:
    """What a run needs: weights for a `key` of the recipe, or the memo called `name`."""

    key: str
    name: str
    digest: str
    content: bytes


@dataclass(frozen=True)
class Update:
    """What comes back of a task: an archive for a place below the output root, and the log."""

    task: str
    place: str = ""
    archive: bytes = b""
    log: bytes = b""


def train(
    task: Task,
    artifacts: Sequence[Artifact],
    saved: bytes,
    root: Path,
    send: Callable[[Update], object],
) -> tuple[str, list[Update]]:
    """Train or resume a run below `root`, sending its checkpoints while it trains.

    Returns why it failed, "" if not, and what it leaves. `saved` is the archive of its directory so
    far, b"" if there is none. KeyboardInterrupt stops it with a checkpoint.
    """
    log = root / "logs" / f"{task.name.replace('/', '--')}.txt"
    log.unlink(missing_ok=True)
    task = replace(task, root=str(root), log=str(log))
    shutil.rmtree(task.run_dir, ignore_errors=True)
    if saved:
        unpacked(saved, task.run_dir)
    task = replace(task, overrides=(*task.overrides, *_placed(artifacts, root)))
    memos = _memos(root)
    send(Update(task.name))
    visible = {n: os.environ[n] for n in ("CUDA_VISIBLE_DEVICES",) if n in os.environ}
    run = RunProcess(task, visible)
    try:
        _watch(run, task, send)
    except KeyboardInterrupt:
        pass
    finally:
        run.stop()
        run.wait()
    found = [memo for memo in _memos(root) - memos if _bytes(memo) <= MOST]
    sent = [Update(task.name, f"memos/{memo.name}", packed(memo)) for memo in found]
    archive = packed(task.run_dir) if task.run_dir.is_dir() else b""
    last = Update(task.name, task.name, archive, Path(task.log).read_bytes())
    shutil.rmtree(task.run_dir, ignore_errors=True)  # or a long study fills this machine's disk
    return run.reason(), [last, *sent]


def _watch(run: RunProcess, task: Task, send: Callable[[Update], object]) -> None:
    """Send the run's directory after each of its checkpoints and epochs, until it ends."""
    seen = None
    while run.running:
        run.wait(PAUSE)
        if (now := _stamp(task.run_dir)) != seen:
            with suppress(FileNotFoundError):  # a checkpoint that was removed meanwhile
                send(Update(task.name, task.name, packed(task.run_dir)))
                seen = now


def _bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def _placed(artifacts: Sequence[Artifact], root: Path) -> list[str]:
    """Unpack what this machine lacks; return the overrides for where the weights are."""
    overrides = []
    for artifact in artifacts:
        place = root / (
            f"artefacts/{artifact.digest}" if artifact.key else f"memos/{artifact.name}"
        )
        if not place.exists():
            unpacked(artifact.content, place, keep=True)
        if artifact.key:
            overrides.append(f"{artifact.key}={place / artifact.name}")
    return overrides


def _memos(root: Path) -> set[Path]:
    return {about.parent for about in root.glob("memos/*/memo.json")}


def _stamp(run_dir: Path) -> object:
    """Return what changes with each checkpoint and epoch."""
    metrics = run_dir / "metrics.jsonl"
    saved = sorted(path.name for path in (run_dir / "checkpoints").glob("epoch_*"))
    return saved, metrics.stat().st_size if metrics.exists() else 0
