"""What was trained, from a run's recipe."""

from collections.abc import Mapping

from kdx.report.blocks import Block, Facts, Table
from kdx.report.files import RunFiles
from kdx.report.wording import called, entries, flow, mapping, term

MIXING = ("mixup", "cutmix")
FED = (*MIXING, "augment", "batch_size", "repeats", "sampling", "workers")
"""What a recipe's `data` says of how the images are fed, not of which they are."""


def manner(recipe: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return how a run is trained besides its losses and optimizer: names, and what is set.

    `recipe` is the resolved recipe, as nested plain values. Augmentation, mixing, repeats, balanced
    sampling, average, clipping; without what is off.
    """
    data, average = mapping(recipe.get("data")), recipe.get("average")
    repeats, sampling = data.get("repeats", 1), data.get("sampling")
    found = {
        "augmentation": _changes(mapping(data.get("augment"))),
        "mixing": ", ".join(f"{key} {flow(data[key])}" for key in MIXING if data.get(key)),
        "repeats": "" if repeats == 1 else f"{flow(repeats)} views of each sample in an epoch",
        "sampling": "" if sampling in (None, "shuffled") else flow(sampling),
        "average": called(average) if average else "",
        "clipping": _clipping(recipe.get("clip")),
    }
    return [(name, text) for name, text in found.items() if text]


def _changes(augment: Mapping[str, object]) -> str:
    """Return the changes of images: "crop 4, flip", "RandAugment (num_ops: 2)"."""
    given = [(key, value) for key, value in augment.items() if value and key != "then"]
    short = [key if value is True else f"{key} {flow(value)}" for key, value in given]
    return ", ".join([*short, *map(called, entries(augment.get("then")))])


def _clipping(clip: object) -> str:
    parts = mapping(clip) or ({"by": "norm", "at": clip} if clip else {})
    return " ".join(map(flow, parts.values()))


def manner_in_words(recipe: Mapping[str, object]) -> str:
    """Return `manner` on a line: "augmentation: crop 4, flip; clipping: norm 1"; "" if empty."""
    return "; ".join(f"{name}: {what}" for name, what in manner(recipe))


def in_a_sentence(run: RunFiles) -> str:
    """Return what was trained on what, and what it was distilled from."""
    student, teachers = mapping(run.recipe.get("student")), _teachers(run)
    text = f"{student.get('use')} on {mapping(run.recipe.get('data')).get('use')}"
    if transforms := entries(student.get("transforms")):
        text += f", trained as {' and '.join(mapping(t).get('use', '?') for t in transforms)}"
    if teachers:
        names = [mapping(each).get("use", "?") for each in teachers.values()]
        text += f", distilled from {' and '.join(names)}"
    return text


def _teachers(run: RunFiles) -> Mapping[str, object]:
    one = run.recipe.get("teacher")
    return {**({"teacher": one} if one else {}), **mapping(run.recipe.get("teachers"))}


def what(run: RunFiles) -> list[Block]:
    """Return the parts of the recipe, and a row for each stage."""
    recipe = run.recipe
    data, student = mapping(recipe.get("data")), mapping(recipe.get("student"))
    facts = [
        ("student", called(student, "transforms")),
        *(("trained as", called(each)) for each in entries(student.get("transforms"))),
        *((name, called(each)) for name, each in _teachers(run).items()),
        ("data", called(data, *FED)),
        *manner(recipe),
        ("batch size", flow(data.get("batch_size"))),
        ("seed", flow(recipe.get("seed"))),
        ("started from", (run.summary.forked_from if run.summary else "") or ""),
    ]
    stages = [mapping(each) for each in entries(recipe.get("stages"))] or [{}]
    rows = []
    for number, stage in enumerate(stages, 1):
        own = {**recipe, **{key: value for key, value in stage.items() if value}}
        losses = " + ".join(term(loss) for loss in entries(own.get("losses")))
        name = str(
            stage.get("name") or stage.get("phase") or (number if len(stages) > 1 else "train")
        )
        rows.append([name, losses, called(own.get("optimizer")), called(own.get("schedule")),
                     flow(own.get("epochs"))])  # fmt: skip
    table = Table(["stage", "losses", "optimizer", "schedule", "epochs"], rows, words=4)
    return [Facts([(name, text) for name, text in facts if text and text != "{}"]), table]
