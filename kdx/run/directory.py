"""The directory of a run: whether it is taken, finished, or locked."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path

from kdx import checkpoints
from kdx.models.weights import FILE_IN_RUN, read_spec
from kdx.recipe import Recipe
from kdx.recipe.paths import RECIPE, REPLACED, is_run, refuse_links
from kdx.report.summary import FILE as SUMMARY
from kdx.util.files import locked, sweep, write_whole
from kdx.util.words import listed

MARK = ".replaced"  # in a run that was moved aside
FORK = "fork.json"  # the checkpoint that the run starts from
TRACES = {RECIPE, SUMMARY, FILE_IN_RUN, "manifest.json"}  # what runs are recognised by
OWN = TRACES | {
    FORK, MARK, ".certificate.json.lock", "analysis", "certificate.json", "checkpoints",
    "classes.json", "exports", "metrics.jsonl", "pictures", "report.html", "report.md",
    "tensorboard", "trackers.json",
}  # fmt: skip
OWN_PATTERNS = "*.partial", "*.uncertified.safetensors", "epoch_*.safetensors", ".DS_Store"
UNTRAINED = {FORK, RECIPE, "tensorboard", "trackers.json"}  # written before an epoch is done


def is_taken(run_dir: Path) -> bool:
    """Return whether something is there, other than a run that ended before its first epoch."""
    if not run_dir.exists():
        return False
    found = {path.name for path in run_dir.iterdir() if not path.name.startswith(".")}
    return bool(found) and not (RECIPE in found and found <= UNTRAINED)


def is_finished(run_dir: Path) -> bool:
    """Return whether a run has exported its student, and then written its summary.

    False also if the export cannot be read: it is written again from the last checkpoint.
    """
    with suppress(FileNotFoundError, ValueError):
        return (run_dir / SUMMARY).is_file() and read_spec(run_dir / FILE_IN_RUN) is not None
    return False


def check_free(run_dir: Path, *, resume: bool, overwrite: bool) -> None:
    """Raise FileExistsError if a run may not be trained there.

    That is, without `overwrite`: if there is a run, unless it is to be resumed; and if the run that
    an earlier one was to replace is still kept aside, which the success of another would remove.
    With it: if files that kdx did not write lie in a run that would be removed.
    """
    aside = _aside(run_dir)
    if is_taken(run_dir) and not (resume or overwrite):
        if inside := _runs_inside(run_dir):
            raise FileExistsError(
                f"{run_dir} is a folder with other runs ({listed(inside)}): give this run another "
                "name (name=...)"
            )
        raise FileExistsError(
            f"{run_dir} already exists: pass --resume (resume=True) to continue it, --overwrite "
            "(overwrite=True) to replace it, or give this run another name (name=...)"
        )
    if _is_kept(aside) and not (overwrite or (resume and checkpoints.any_at(run_dir))):
        raise FileExistsError(
            f"{aside} is the run that {run_dir} was to replace, and is still kept: move it back, "
            "pass --overwrite to replace it, or give this run another name (name=...)"
        )
    removes = overwrite and is_taken(run_dir) and _is_kept(aside) and not is_finished(run_dir)
    if removes and (foreign := _foreign(run_dir)):
        wrote = f"{run_dir} is to be replaced, but kdx did not write {listed(foreign)}"
        raise FileExistsError(f"{wrote}: move what is to be kept")
    if not (resume and checkpoints.any_at(run_dir)):
        check_apart(run_dir)
        for place in (run_dir, aside):
            refuse_holding(place)


def check_apart(run_dir: Path) -> None:
    """Raise FileExistsError if a run directory would lie in that of another run."""
    for place in Path(os.path.realpath(run_dir)).parents:
        if is_run(place):
            raise FileExistsError(
                f"{run_dir} lies in the run {place}, which would take it along when it is replaced "
                "or moved: give this run another name (name=...) or output root (--output-root)"
            )


def _runs_inside(folder: Path) -> list[str]:
    """Return the names of the runs in a folder that is not a run."""
    if any((folder / name).exists() for name in TRACES):
        return []
    return sorted({each.parent.name for name in TRACES for each in folder.glob(f"*/{name}")})


def refuse_holding(run_dir: Path) -> None:
    """Raise FileExistsError if another run, or the student of one, lies in a run directory."""
    for path in sorted(run_dir.rglob("*")):
        is_own = path.parent == run_dir or (
            path.parent.parent == run_dir / "checkpoints" and path.name not in (RECIPE, SUMMARY)
        )
        if path.name in TRACES and not is_own:
            raise FileExistsError(
                f"{path.parent} lies in {run_dir}, and would be replaced or removed with it: move "
                "it, or give this run another name (name=...)"
            )


def moved(recipe: Recipe, *, resume: bool, overwrite: bool) -> tuple[Recipe, list[str]]:
    """Return the recipe for the run directory that it lies in, if that is resumed, and notes.

    A run may have been moved, so that its name means another directory: FileExistsError if there is
    another run there that `overwrite` would replace.
    """
    own, named = recipe.locations.own, recipe.run_dir
    if own is None or own == Path(os.path.realpath(named)):
        return recipe, []
    if resume:
        return recipe.at(own), [f"the recipe lies in the run {own}: this one, not {named}"]
    if overwrite and is_taken(named):
        raise FileExistsError(
            f"{named} would be replaced, but the recipe lies in the run {own}: name the run to "
            "replace or to start (name=...)"
        )
    return recipe, [f"the recipe lies in the run {own}, this is a new run: --resume continues it"]


@contextmanager
def claimed(recipe: Recipe, *, resume: bool, overwrite: bool) -> Iterator[Path | None]:
    """Create and lock the run directory; yield the run that was moved aside, if there is one.

    With `overwrite` a run of kdx that is there is moved aside, unless it never finished and one is
    aside already. FileExistsError as `check_free`, for a run that another process trains or has
    finished meanwhile, and for a directory that is not a run; ValueError for links in it, which
    are not written through.
    """
    run_dir, aside = recipe.run_dir, _aside(recipe.run_dir)
    run_dir.parent.mkdir(parents=True, exist_ok=True)
    busy = f"{run_dir} is being trained by another process: wait for it, or stop it"
    with locked(run_dir.with_name(f".{run_dir.name}.lock"), busy=busy):
        if is_taken(run_dir):
            if not (run_dir / RECIPE).is_file() and not (resume and checkpoints.any_at(run_dir)):
                done = "resumed" if resume else "replaced"
                raise FileExistsError(f"{run_dir} is not a run of kdx: it is not {done}")
            if resume and is_finished(run_dir):
                raise FileExistsError(f"{run_dir}: another process has finished it meanwhile")
        check_free(run_dir, resume=resume, overwrite=overwrite)
        if is_taken(run_dir) and not resume:
            _move(run_dir, aside)
        refuse_links(run_dir)
        run_dir.mkdir(exist_ok=True)
        checkpoints.sweep(run_dir / "checkpoints")
        sweep(run_dir)
        write_whole(run_dir / RECIPE, recipe.portable_yaml())
        yield aside if _is_kept(aside) else None


def discard(aside: Path) -> str:
    """Remove a run that was moved aside, unless it is another by now; return a note if it stays."""
    try:
        refuse_holding(aside)
    except FileExistsError as error:
        return f"{aside} is kept: {error}"
    if _is_kept(aside):
        if foreign := _foreign(aside):
            return f"{aside} is kept: kdx did not write {listed(foreign)}"
        shutil.rmtree(aside)
    return ""


def _foreign(run_dir: Path) -> list[str]:
    """Return the names in a run directory that kdx has not written."""
    names = sorted(entry.name for entry in run_dir.iterdir() if entry.name not in OWN)
    return [name for name in names if not any(fnmatch(name, each) for each in OWN_PATTERNS)]


def _aside(run_dir: Path) -> Path:
    return run_dir.with_name(f"{run_dir.name}{REPLACED}")


def _is_kept(aside: Path) -> bool:
    return (aside / MARK).is_file()


def _move(run_dir: Path, aside: Path) -> None:
    """Move a run aside, and mark it: a directory without the mark is never removed."""
    if _is_kept(aside):
        if not is_finished(run_dir):
            shutil.rmtree(run_dir)
            return
        if note := discard(aside):
            raise FileExistsError(f"{note}: move it, to replace {run_dir}")
    if aside.exists():
        raise FileExistsError(f"{aside} is in the way of the run to replace: move it")
    (run_dir / MARK).touch()
    run_dir.rename(aside)
