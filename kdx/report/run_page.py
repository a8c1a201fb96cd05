"""The page of one run."""

import json

from kdx.report.blocks import (
    Block,
    Facts,
    Fold,
    Page,
    Pictures,
    Section,
    Table,
    Text,
    Tiles,
)
from kdx.report.by_class import class_sections
from kdx.report.contents import Certificate
from kdx.report.curves import curves
from kdx.report.exports import exports
from kdx.report.files import RunFiles
from kdx.report.images import embedded
from kdx.report.student_file import outputs_in_words, weight_ranges
from kdx.report.summary import (
    OPTIMISTIC,
    SIDES,
    Summary,
    environment_rows,
    errors_table,
    result_table,
)
from kdx.report.trained import in_a_sentence, what
from kdx.report.weights import weight_blocks
from kdx.report.wording import (
    OF_IMAGES,
    flow,
    mapping,
    plugins_of,
    standard_error,
    wilson,
)
from kdx.util.words import counted, in_bytes, in_time, measured

STUDENT = "student.safetensors"
SHOWN = 16  # pictures


def run_page(run: RunFiles) -> Page:
    """Return the page of a run, finished or not; ValueError for pictures that cannot be read."""
    summary, certificate = run.summary, run.certificate
    sections = [
        Section("Result", _result(summary) if summary else [Text(_unfinished(run))]),
        Section("What was trained", what(run)),
        Section("Certificate", _certificate(certificate) if certificate else []),
        Section("Exports", exports(certificate.exports, summary) if certificate else []),
        Section("Curves", curves(run)),
        Section("Weight ranges", weight_blocks({run.name: weight_ranges(run.path)})),
        *class_sections(run),
        Section("Pictures", _pictures(run)),
        Section("Cost and hardware", _cost(run, summary) if summary else []),
        Section("Load it", _load(run, summary) if summary else []),
        Section("Recipe", [Fold("recipe.yaml, resolved", [Text(run.recipe_text, code=True)])]),
    ]
    version = summary.environment.get("kdx") if summary else None
    kicker = "Training run" + (f" · kdx {version}" if version else "")
    return Page(kicker, run.name, in_a_sentence(run), [s for s in sections if s.blocks])


def _unfinished(run: RunFiles) -> str:
    done = counted(len(run.epochs), "epoch is done", "epochs are done")
    return f"This run is not finished: {done}. It has no summary and no exported student yet."


def _result(summary: Summary) -> list[Block]:
    return [Tiles(_tiles(summary)), Table(*result_table(summary), words=2), *_remarks(summary)]


def _tiles(summary: Summary) -> list[tuple[str, str, str]]:
    n, first = summary.test_images, summary.primary_metric
    tiles = []
    for name, heading in summary.headings.items():
        if (value := summary.test.get(name)) is None:
            continue
        note = ""
        if name in OF_IMAGES and n:
            low, high = wilson(value, n)
            note = (f"± {100 * standard_error(value, n):.2f} points; 95% interval "
                    f"{100 * low:.2f} to {100 * high:.2f}")  # fmt: skip
        more = f"n = {n:,} test images, one run, one seed" if name == first else ""
        shown = measured(name, value, summary.numbers)
        tiles.append((f"test {heading}", shown, "; ".join(filter(None, (note, more)))))
    compact, trained = (summary.parameters.get(key, 0) for key in ("compact", "trained"))
    note = "" if compact == trained else f"{trained:,} while training"
    return [*tiles[:4], ("parameters", f"{compact:,}", note)]


def _remarks(summary: Summary) -> list[Block]:
    texts = []
    if any(name in OF_IMAGES for name in summary.headings):
        texts.append(
            "±: the binomial standard error over the test images. It does not contain what another "
            "seed would change; the interval is Wilson's."
        )
    if summary.evaluated_on == "test":
        texts.append(OPTIMISTIC)
    if summary.stopped_early:
        texts.append(f"Stopped early: {summary.stopped_early}.")
    return [Text(text) for text in texts]


def _certificate(certificate: Certificate) -> list[Block]:
    holds, is_trained = certificate.holds, "the trained one, up to rounding"
    verdict = "holds" if holds else "does not hold"
    detail = (
        f"the exported network is {is_trained}" if holds else f"nothing exported: not {is_trained}"
    )
    changed = f"{certificate.predictions_changed:,} of {certificate.predictions:,}"
    single = certificate.float32
    tiles = [
        ("certificate", verdict, detail),
        ("largest error, float32", f"{single.max_rel_error:.2g}", "of the largest logit"),
        *([("predictions changed", changed, "by compression")] * bool(certificate.predictions)),
    ]
    return [Tiles(tiles), Table(*errors_table(single, certificate.float64))]


def _pictures(run: RunFiles) -> list[Block]:
    mistakes = {each.picture for each in run.classes.worst} if run.classes else set()
    names = sorted(f"pictures/{path.name}" for path in (run.path / "pictures").glob("*.png"))
    shown = [name for name in names if name not in mistakes][:SHOWN]
    if not shown:
        return []
    stem = {name: name.removeprefix("pictures/").removesuffix(".png") for name in shown}
    found = [embedded(run.path, name, f"image {stem[name].lstrip('0') or '0'}") for name in shown]
    return [Text(SIDES), Pictures(found)]


def _cost(run: RunFiles, summary: Summary) -> list[Block]:
    per_epoch = f"{summary.seconds / max(1, summary.epochs):.2g} s an epoch"
    tiles = [
        ("training", in_time(summary.seconds), f"{summary.epochs:,} epochs, {per_epoch}"),
        ("images a second", f"{summary.images_per_second:,.0f}", "training only"),
    ]
    if (file := run.path / STUDENT).is_file():
        tiles.append(("exported file", in_bytes(file.stat().st_size), STUDENT))
    return [Tiles(tiles), Facts(environment_rows(summary.environment))]


def _load(run: RunFiles, summary: Summary) -> list[Block]:
    use = str(mapping(run.recipe.get("student")).get("use", ""))
    more = f", network={use[7:]}(...)" if use.startswith("object:") else ""
    if not more and (plugins := plugins_of(run.recipe)):
        more = f", plugins={json.dumps(plugins)}"
    lines = f"import kdx\n\nstudent = kdx.load_student({json.dumps(str(run.path))}{more})"
    blocks: list[Block] = [Text(lines, code=True)]
    if summary.preprocessing:
        text = "The student takes images prepared like this; docs/running.md has code that does it."
        facts = [(key, flow(value)) for key, value in summary.preprocessing.items() if value]
        blocks += [Text(text), Facts(facts)]
    outputs = outputs_in_words(run.path)
    return [*blocks, Text(outputs)] if outputs else blocks
