"""The search of one arm by Optuna: its trials are runs, and its state is what these have left.

Trials are asked for in batches, and told of in the order in which they were asked for: so a search
takes the same course on one machine and on many, and when it is resumed.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import isfinite
from typing import Any
from warnings import catch_warnings, simplefilter

from kdx.recipe import Recipe
from kdx.report.summary import read_summary
from kdx.run.directory import is_finished
from kdx.training.log import METRICS
from kdx.util.files import write_whole
from kdx_lab.executors.task import needed
from kdx_lab.study.finished import changed_since
from kdx_lab.study.schema import Tune
from kdx_lab.tuning.space import Range, parsed

__all__ = ["BATCH", "Search", "Trial"]

BATCH = 4  # trials of an arm that may run at the same time
SEED = 0  # of the sampler
FAILED = "failed.txt"  # in the directory of a trial: why
MOST_AT_RANDOM = 10  # trials before TPE begins to learn; of few, half, and the first batch


@dataclass
class Trial:
    """A run with values of the space; `asked` is Optuna's trial."""

    asked: Any
    values: Mapping[str, Any]
    recipe: Recipe
    reported: list[float] = field(default_factory=list)
    pruned: bool = False
    failure: str = ""

    def watch(self) -> bool:
        """Report the epochs that the run has evaluated; return whether it is to be pruned."""
        for value in islice(_curve(self.recipe), len(self.reported), None):
            if not self.pruned:
                self.reported.append(value)
                self.asked.report(value, len(self.reported))
                self.pruned = bool(self.asked.should_prune())
        return self.pruned

    def keep_failure(self) -> None:
        """Let a resumed search take a trial that failed as it was: later ones depend on it."""
        if self.value() is None and not self.pruned:
            self.recipe.run_dir.mkdir(parents=True, exist_ok=True)
            write_whole(self.recipe.run_dir / FAILED, f"{self.failure or 'not a number'}\n")

    def kept_failure(self) -> str:
        """Return why the trial failed in an earlier search, and how it is tried again; or ""."""
        if not (file := self.recipe.run_dir / FAILED).is_file():
            return ""
        self.failure = file.read_text(encoding="utf-8").strip()
        return f"{self.failure} (in an earlier run: remove {file.parent} to try it again)"

    def is_over(self) -> bool:
        """Whether the run has ended before: it is finished, failed, or was pruned.

        ValueError if it was made with another recipe.
        """
        run_dir = self.recipe.run_dir
        if (run_dir / "recipe.yaml").is_file() and (lines := changed_since(self.recipe)):
            listed = "\n  ".join(lines)
            raise ValueError(
                f"{run_dir}: a trial of another recipe:\n  {listed}\nRevert these changes, remove "
                "the study's directory `tune`, or give it another name (name=...)"
            )
        return self.watch() or is_finished(run_dir) or (run_dir / FAILED).is_file()

    def value(self) -> float | None:
        """Return the validation metric of what the run exported; None if it failed or is NaN."""
        if not is_finished(self.recipe.run_dir):
            return None
        summary = read_summary(self.recipe.run_dir)
        last = (summary.average if summary.exported == "average" else None) or summary.last
        metrics = summary.best if self.recipe.select == "best" else last
        value = metrics[summary.primary_metric]
        return value if isfinite(value) else None

    def seconds(self) -> float:
        """Return the seconds of training, as far as the run came."""
        return sum(epoch.get("seconds", 0.0) for epoch in _epochs(self.recipe))


class Search:
    """Asks for the values of an arm's trials, and learns from their results."""

    def __init__(self, tune: Tune, space: Mapping[str, Any]) -> None:
        optuna = needed("optuna", "tune")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        spread = max(BATCH, min(tune.trials // 2, MOST_AT_RANDOM))
        samplers = {
            "tpe": partial(optuna.samplers.TPESampler, n_startup_trials=spread),
            "qmc": partial(
                optuna.samplers.QMCSampler, scramble=True, warn_independent_sampling=False
            ),
            "random": optuna.samplers.RandomSampler,
        }
        prunes = optuna.pruners.MedianPruner(n_startup_trials=BATCH)
        self.states, self.space = optuna.trial.TrialState, {k: parsed(v) for k, v in space.items()}
        with catch_warnings():  # that Optuna may still change QMCSampler's arguments
            simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = samplers[tune.sampler](seed=SEED)
        self.study = optuna.create_study(
            direction="maximize",
            sampler=sampler,
            pruner=prunes if tune.prune else optuna.pruners.NopPruner(),
        )

    def ask(self) -> tuple[Any, dict[str, Any]]:
        """Return Optuna's next trial, and its values by the recipe's keys."""
        asked = self.study.ask()
        return asked, {key: _suggested(asked, key, each) for key, each in self.space.items()}

    def tell(self, trial: Trial) -> None:
        """Learn from a trial that has ended."""
        value = trial.value()
        if trial.watch():
            self.study.tell(trial.asked, state=self.states.PRUNED)
        elif value is None:
            self.study.tell(trial.asked, state=self.states.FAIL)
        else:
            self.study.tell(trial.asked, value)


def _suggested(asked: Any, key: str, space: Range | tuple[object, ...]) -> Any:
    if isinstance(space, tuple):
        return asked.suggest_categorical(key, space)
    if space.kind == "int":
        return asked.suggest_int(key, int(space.low), int(space.high))
    number = asked.suggest_float(key, space.low, space.high, log=space.kind == "log")
    shown = (float(f"{number:.{digits}g}") for digits in (4, 8))  # what tables show is what runs
    return next((each for each in shown if space.low < each < space.high), number)


def _curve(recipe: Recipe) -> Iterator[float]:
    """Yield the primary validation metric of each evaluated epoch: the first of its line.

    Of the student or of its average, whichever is better, as in what is exported.
    """
    for epoch in _epochs(recipe):
        of_each = (
            [value for key, value in epoch.items() if key.startswith(start)]
            for start in ("validation/", "validation_average/")
        )
        if firsts := [found[0] for found in of_each if found]:
            yield max(firsts)


def _epochs(recipe: Recipe) -> Iterator[dict[str, Any]]:
    """Yield the lines of a run's metrics.jsonl, without the last if that is not whole."""
    try:
        lines = (recipe.run_dir / METRICS).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:  # being written, or its run was killed then
            return
