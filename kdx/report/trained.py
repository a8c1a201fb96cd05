"""What was trained, from a run's recipe."""

from collections.abc import Mapping

from kdx.report.blocks import Block, Facts, Table
from kdx.report.files import Run
from kdx.report.wording import called, entries, flow, mapping, term


def in_a_sentence(run: Run) -> str:
    """Return what was trained on what, and by whom it was taught."""
    student, teachers = mapping(run.recipe.get("student")), _teachers(run)
    text = f"{student.get('use')} on {mapping(run.recipe.get('data')).get('use')}"
    if transforms := entries(student.get("transforms")):
        text += f", trained as {' and '.join(mapping(t).get('use', '?') for t in transforms)}"
    if teachers:
        text += f", taught by {' and '.join(mapping(t).get('use', '?') for t in teachers.values())}"
    return text


def _teachers(run: Run) -> Mapping[str, object]:
    one = run.recipe.get("teacher")
    return {**({"teacher": one} if one else {}), **mapping(run.recipe.get("teachers"))}


def what(run: Run) -> list[Block]:
    """Return the parts of the recipe, and a row for each stage."""
    recipe = run.recipe
    data, student = mapping(recipe.get("data")), mapping(recipe.get("student"))
    facts = [
        ("student", called(student, "transforms")),
        *(("trained as", called(each)) for each in entries(student.get("transforms"))),
        *((name, called(each)) for name, each in _teachers(run).items()),
        ("data", called(data, "augment", "batch_size", "workers", "repeats")),
        ("augmentation", flow(data["augment"]) if data.get("augment") else ""),
        ("average", called(recipe["average"]) if recipe.get("average") else ""),
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
