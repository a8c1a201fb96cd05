"""report.md: what was trained, how, and the results."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdx.data.preprocessing import in_words
from kdx.models.certificate import Certificate
from kdx.protocols import InputSpec
from kdx.recipe import Component, Recipe
from kdx.recipe.optimizing import Optimizer
from kdx.report.files import read_epochs
from kdx.report.student_file import outputs_in_words
from kdx.report.summary import (
    OPTIMISTIC,
    SIDES,
    Summary,
    environment_rows,
    errors_table,
    result_table,
)
from kdx.report.trained import manner_in_words
from kdx.run.class_tables import named, section
from kdx.run.classes import Classes
from kdx.training.log import METRICS
from kdx.util.files import write_whole
from kdx.util.markdown import markdown_table
from kdx.util.words import counted

PICTURES = f"## Pictures\n\n{SIDES}"
GRADIENTS = """
Norm of each term's gradient on the student's parameters, and its cosine to the gradient of the task
loss, the first term that reads no teacher. With the suggested weight, the term's weighted gradient
has the norm of the task loss's. Medians of the last epoch of the stage, and the range of all."""
EVALUATING = """\
```bash
kdx evaluate {run_dir}{plugin_options}
```

"""
LOADING = """\
```python
import kdx

student = kdx.load_student("{run_dir}"{more})
```

It takes images of {input} as (pixels / 255 - mean) / std, mean {input.mean}, std {input.std}.
{made}"""
MADE = """
Preprocessing in evaluation: {}. The file's metadata has it as
"preprocessing"; docs/running.md has code that follows it."""


def write_report(
    run_dir: Path,
    recipe: Recipe,
    summary: Summary,
    certificate: Certificate,
    *,
    input: InputSpec,
    pictures: Sequence[str] = (),
    classes: Classes | None = None,
) -> Path:
    """Write report.md into the run directory; return its path.

    `input` is the student's, `pictures` are files below the run directory.
    """
    epochs = read_epochs(run_dir / METRICS)
    shown = "\n".join(f"![test image]({name})" for name in pictures)
    gradients = _gradients(recipe, epochs)
    sections = [
        f"# {summary.name}",
        _what(recipe, summary.forked_from),
        f"## Result\n\n{_result(summary)}",
        *([f"## {named(classes)[1].capitalize()}\n\n{section(classes)}"] if classes else []),
        f"## Certificate\n\n{_certificate(certificate)}",
        *([f"{PICTURES}\n\n{shown}"] if pictures else []),
        f"## Epochs\n\n{_epochs(epochs, summary.primary_metric)}",
        *([f"## Gradients\n\n{gradients}"] if gradients else []),
        f"## Environment\n\n{markdown_table(('', ''), environment_rows(summary.environment))}",
        f"## Load it\n\n{_load(recipe, run_dir, input, summary)}",
    ]
    path = run_dir / "report.md"
    write_whole(path, "\n\n".join(sections) + "\n")
    return path


def _what(recipe: Recipe, forked_from: str | None) -> str:
    text = f"{_called(recipe.student.component)} on `{recipe.data.component.use}`"
    if recipe.data.label_noise:
        text += f" with {100 * recipe.data.label_noise:g}% of the training labels drawn at random"
    for transform in recipe.student.transforms:
        text += f", trained as {_called(transform)}"
    if teachers := recipe.all_teachers:
        text += f", distilled from {' and '.join(_called(t.component) for t in teachers.values())}"
    if forked_from:
        text += f", started from the student of `{forked_from}`"
    stages = []
    for stage in recipe.resolved_stages():
        losses = " + ".join(term.shown for term in stage.losses)
        stages.append(
            f"- {stage.name}: {losses}, {counted(stage.epochs, 'epoch')}, "
            f"{_optimizer(stage.optimizer)}, {_called(stage.schedule)}"
        )
    text += f". Batch {recipe.data.batch_size}, seed {recipe.seed}."
    if more := manner_in_words(recipe.plain()):
        text += f" {more[0].upper()}{more[1:]}."
    return f"{text}\n\n" + "\n".join(stages)


def _result(summary: Summary) -> str:
    text = (
        f"{summary.parameters['compact']:,} parameters ({summary.parameters['trained']:,} while "
        f"training), {summary.seconds:.1f} s of training, "
        f"{summary.images_per_second:,.0f} images/s. One run, one seed."
    )
    if summary.stopped_early:
        text += f"\nStopped early: {summary.stopped_early}."
    if summary.evaluated_on == "test":
        text += f"\n{OPTIMISTIC}"
    return f"{markdown_table(*result_table(summary))}\n\n{text}"


def _certificate(certificate: Certificate) -> str:
    table = markdown_table(*errors_table(certificate.float32, certificate.float64))
    changed = f"{certificate.predictions_changed:,} of {certificate.predictions:,}"
    decided = f"\n\nPredictions changed by compression: {changed}."
    return table + (decided if certificate.predictions else "")


def _epochs(epochs: Sequence[Mapping[str, Any]], primary_metric: str) -> str:
    ends, every = (f"/{primary_metric}", "/agreement"), dict.fromkeys(n for e in epochs for n in e)
    names = [name for name in every if name.startswith("loss/") or name.endswith(ends)]
    rows = [
        (str(e["epoch"]), e["stage"], f"{e['learning_rate']:.3g}",
         *(f"{e[name]:.4f}" if name in e else "" for name in names))
        for e in epochs
    ]  # fmt: skip
    return markdown_table(("epoch", "stage", "learning rate", *names), rows)


def _gradients(recipe: Recipe, epochs: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of what `diagnose` found; empty if nothing."""
    rows = []
    for stage in recipe.resolved_stages():
        for term in stage.losses:
            name, key = term.name, f"gradient/{term.name}"
            found = [e for e in epochs if e["stage"] == stage.name and key in e]
            if not found:
                continue
            last, cosine, suggested = found[-1], f"cosine/{name}", f"suggested/{name}"
            weight = last.get(f"weight/{name}", term.weight_at(0, stage.epochs))
            every = [e[suggested] for e in found if suggested in e]
            rows.append((
                stage.name, name, f"{weight:g}", f"{last[key]:.3g}", f"{weight * last[key]:.3g}",
                f"{last[cosine]:z.2f}" if cosine in last else "",
                f"{last[suggested]:g}" if suggested in last else "",
                f"{min(every):g} to {max(every):g}" if every else "",
            ))  # fmt: skip
    heading = ("stage", "term", "weight", "gradient", "weight x gradient", "cosine",
               "suggested weight", "over all epochs")  # fmt: skip
    return f"{markdown_table(heading, rows)}\n{GRADIENTS}" if rows else ""


def _load(recipe: Recipe, run_dir: Path, input: InputSpec, summary: Summary) -> str:
    """Return code that loads the student, and what evaluates it; objects are built by the user."""
    made = MADE.format(in_words(summary.preprocessing)) if summary.preprocessing else ""
    if outputs := outputs_in_words(run_dir):
        made += f"\n{outputs}"
    about = {"run_dir": run_dir, "input": input, "made": made}
    use, plugins = recipe.student.component.use, list(recipe.locations.plugins)
    if use.startswith("object:"):
        return LOADING.format(more=f", network={use[7:]}(...)", **about)
    more = f", plugins={json.dumps(plugins)}" if plugins else ""
    options = "".join(f" --plugin {name}" for name in plugins)
    return (EVALUATING + LOADING).format(more=more, plugin_options=options, **about)


def _optimizer(section: Optimizer) -> str:
    groups = section.model_dump(exclude={"component"}, exclude_defaults=True)
    part = section.component
    return _called(replace(part, arguments={**part.arguments, **groups}))


def _called(component: Component) -> str:
    inside = ", ".join(f"{name}={value!r}" for name, value in component.arguments.items())
    return f"`{component.use}`" + (f"({inside})" if inside else "")
