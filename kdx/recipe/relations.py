"""What has to fit between the sections of a recipe, whether or not each is right in itself.

Sections are plain values here, as read and overridden; what is ill-formed is left to the schema.
"""

from pathlib import Path
from typing import Any

from kdx.recipe.errors import KeyPath, Report, dotted
from kdx.recipe.paths import Locations, is_run
from kdx.recipe.wording import show, unknown
from kdx.util.words import of_windows

EMA = "ema"  # as a teacher: see `kdx.models.average`


def _get(data: Any, *keys: str | int) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data


def check_relations(data: dict[str, Any], report: Report) -> None:
    """Report what is wrong between sections, whether or not each is right in itself."""
    if data.get("select") == "best" and not _get(data, "data", "validation"):
        report.add(("select",), "'best' needs `data.validation`, images to choose the epoch by")
    if data.get("patience") and not _get(data, "data", "validation"):
        report.add(("patience",), "needs `data.validation`, images to measure an improvement on")
    for path, teacher in _teachers(data):
        if teacher.get("recipe") and not teacher.get("weights"):
            report.add((*path, "recipe"), "needs `weights:`, the run directory that it fills")
        for key in ("weights", "recipe", "memo", "input") if teacher.get("use") == EMA else ():
            if teacher.get(key):
                report.add((*path, key), "not for the student's moving average (ema): remove it")
    if _get(data, "student", "use") == EMA:
        report.add(("student", "use"), "'ema' is a teacher, the student's own moving average")
    if data.get("teacher") and data.get("teachers"):
        report.add(("teachers",), "name all teachers here, or have one, in `teacher:`")
    stages = data["stages"] if isinstance(data.get("stages"), list) else []
    parts = [((), data), *((("stages", index), stage) for index, stage in enumerate(stages))]
    for path, part in parts if data.get("teacher") or data.get("teachers") else ():
        _check_teacher_names(part, path, data.get("teachers"), report)
    for index, stage in enumerate(stages):
        if (phase := _get(stage, "phase")) and not _get(data, "student", "transforms"):
            message = f"phase {show(phase)} but the student has no transforms"
            report.add(("stages", index, "phase"), message)
    if "epochs" in data and stages and all(_get(s, "epochs") is not None for s in stages):
        # An override of the stages' epochs may leave the file's unused.
        keys = [("stages", index, "epochs") for index in range(len(stages))]
        if report.overridden(("epochs",)) or not any(map(report.overridden, keys)):
            instead = ", ".join(f"stages.{index}.epochs=..." for index in range(len(stages)))
            report.add(("epochs",), f"unused, since every stage sets its own: set {instead}")


def check_paths(value: Any, report: Report, path: KeyPath = ()) -> None:
    """Report paths of Windows, anywhere in a recipe, on another system."""
    if isinstance(value, str) and (advice := of_windows(value)):
        report.add(path, advice)
    inside = value.items() if isinstance(value, dict) else ()
    for key, each in enumerate(value) if isinstance(value, list) else inside:
        check_paths(each, report, (*path, key))


def _check_teacher_names(part: Any, path: KeyPath, teachers: Any, report: Report) -> None:
    """Report losses of a recipe or a stage that name teachers which there are not."""
    losses = _get(part, "losses")
    for index, term in enumerate(losses if isinstance(losses, list) else ()):
        given = _get(term, "teacher")
        for name in given if isinstance(given, dict) else [given] * isinstance(given, str):
            if not isinstance(teachers, dict) or name not in teachers:
                known = unknown(str(name), teachers) if isinstance(teachers, dict) else ""
                message = f"{show(name)} is not one of `teachers:`.{known}"
                report.add((*path, "losses", index, "teacher"), message)


def _teachers(data: dict[str, Any]) -> list[tuple[KeyPath, dict[str, Any]]]:
    """Return the sections of teachers that are mappings, with their places."""
    several = data.get("teachers")
    named = several.items() if isinstance(several, dict) else ()
    found = [(("teacher",), data.get("teacher")), *((("teachers", n), each) for n, each in named)]
    return [(path, each) for path, each in found if isinstance(each, dict)]


def born_again(data: dict[str, Any]) -> None:
    """Replace `use: student` of teachers by the student's network and its arguments."""
    student = data.get("student")
    own = {"use", "weights", "transforms"}
    for _, teacher in _teachers(data):
        if teacher.get("use") == "student" and isinstance(student, dict):
            shared = {key: value for key, value in student.items() if key not in own}
            teacher |= {**shared, **teacher, "use": student.get("use")}


def check_memos(data: dict[str, Any], locations: Locations, report: Report) -> None:
    """Report memos outside the output root, unless an override asks for them there.

    A recipe may be from elsewhere; the command line is the user's own.
    """
    for section, teacher in _teachers(data):
        path, memo = (*section, "memo", "directory"), teacher.get("memo")
        given = _get(memo, "directory") or "runs/memos"
        asked = report.overridden(path) and _get(memo, "directory")
        if not isinstance(memo, dict) or not isinstance(given, str):
            continue
        place = Path(locations.output(given)).absolute()
        if not (asked or locations.holds(given)):
            root = locations.output_root
            message = f"{show(given)} is outside the output root {root}, where recipes may write"
            report.add(path, f"{message}: set it on the command line, {dotted(path)}=...")
        elif inside := next(filter(is_run, (place, *place.parents)), None):
            message = f"{show(given)} lies in a run, {inside}, and would be removed with it"
            report.add(path, f"{message}: choose another directory")
