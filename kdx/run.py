"""The main job: from a recipe to a run directory with the compact student in it."""

import shutil
from contextlib import closing
from math import sqrt
from pathlib import Path

import torch
from rich.console import Console

from kdx import weights
from kdx.build import Job, build
from kdx.finish import finish
from kdx.log import RunLog
from kdx.loop import Loop, accelerator_for
from kdx.networks import has_weights
from kdx.recipe import Recipe

__all__ = ["CertificateError", "describe", "ensure_teacher", "run"]


class CertificateError(Exception):
    """The compact network is not the one that was trained; nothing was exported."""


def run(recipe: Recipe, console: Console, *, overwrite: bool = False) -> Path:
    """Train as the recipe says and return the run directory.

    Where the teacher has no weights yet and names a recipe, that one is run first. Raises
    ValueError for what does not fit, FileExistsError where the run directory is
    taken, and CertificateError (student.safetensors is not written then).
    """
    if not overwrite and recipe.run_dir.exists() and any(recipe.run_dir.iterdir()):
        raise FileExistsError(
            f"{recipe.run_dir} holds a run already: pass --overwrite to replace it, "
            "or give this one another name (name=...)"
        )
    ensure_teacher(recipe, console)
    job = build(recipe)
    loop = Loop(job, accelerator_for(job))
    main = loop.accelerator.is_main_process
    console.quiet = not main
    if main:
        _claim(recipe)
    _introduce(job, loop, console)
    teacher = _check_teacher(loop, console)
    log = RunLog(
        recipe.run_dir,
        console,
        epochs=sum(stage.stage.epochs for stage in job.stages),
        input=job.data.input,
        classes=job.classes,
        main=main,
    )
    with closing(log):
        fitted = loop.fit(log)
    best = loop.agree(log.best)
    if recipe.select == "best" and best:
        weights.load(job.student, best)
    problems = finish(loop, fitted, teacher, console)
    if problems:
        raise CertificateError(f"{recipe.run_dir}: {'; '.join(problems)}; nothing was exported")
    return recipe.run_dir


def ensure_teacher(recipe: Recipe, console: Console) -> None:
    """Run the teacher's recipe first, where its weights are absent.

    Raises ValueError where it has no recipe, or one that would write other weights.
    """
    section = recipe.teacher
    if section is None or has_weights(section.weights):
        return
    if section.recipe is None:
        raise ValueError(
            f"teacher.weights: {section.weights} does not exist, and the recipe names no "
            "`teacher.recipe` to train it by"
        )
    teacher = recipe.beside(section.recipe)
    if teacher.run_dir.resolve() != Path(section.weights or "").resolve():
        raise ValueError(
            f"teacher.weights: {section.weights} does not exist, and {section.recipe} would "
            f"write {teacher.run_dir}: make its `name:` and the weights the same"
        )
    console.print(f"[bold]The teacher has no weights yet: training it by {section.recipe}[/bold]")
    run(teacher, console, overwrite=True)


def _claim(recipe: Recipe) -> None:
    """Make the run directory anew; only a directory that is a run is ever replaced."""
    if recipe.run_dir.exists() and any(recipe.run_dir.iterdir()):
        if not (recipe.run_dir / "recipe.yaml").is_file():
            raise FileExistsError(f"{recipe.run_dir} is not a run of kdx: it is not replaced")
        shutil.rmtree(recipe.run_dir)
    recipe.run_dir.mkdir(parents=True, exist_ok=True)
    (recipe.run_dir / "recipe.yaml").write_text(recipe.to_yaml())


def _introduce(job: Job, loop: Loop, console: Console) -> None:
    splits, counts = job.splits, job.rehearsal.parameters
    held = f", {len(splits.validation):,} held out" if splits.validation else ""
    console.rule(f"[bold]{job.recipe.name}")
    console.print(
        f"data     {job.recipe.data.component.use}: {len(splits.train):,} training images{held}, "
        f"{len(splits.test):,} test images, {job.classes} classes\n"
        f"student  {job.recipe.student.component.use}: {counts['compact']:,} parameters, "
        f"trained with {counts['trained']:,}\n"
        f"device   {describe(loop)}",
        highlight=False,
    )


def describe(loop: Loop) -> str:
    """Say on what and how a loop runs."""
    accelerator = loop.accelerator
    processes = f"{loop.world} process{'es' if loop.world > 1 else ''}"
    threads = f", {torch.get_num_threads()} threads" if accelerator.device.type == "cpu" else ""
    names = {"no": "float32"}
    precision = names.get(accelerator.mixed_precision, accelerator.mixed_precision)
    return f"{accelerator.device.type}, {processes}{threads}, {precision}"


def _check_teacher(loop: Loop, console: Console) -> dict[str, float] | None:
    """Evaluate the teacher; ValueError where it does no better than chance."""
    job = loop.job
    if job.teacher is None:
        return None
    name, source = loop.evaluation_source()
    evaluation = loop.evaluate(job.teacher, source)
    loop.teacher_predictions = evaluation.predictions
    top1, chance = evaluation.metrics["top1"], 1 / job.classes
    console.print(f"teacher  {top1:.2%} top-1 on {len(source):,} {name} images", highlight=False)
    bound = chance + 2 * sqrt(chance * (1 - chance) / len(source))
    section = job.recipe.teacher
    if top1 <= bound and section and not section.allow_chance:
        raise ValueError(
            f"teacher: {top1:.2%} top-1 on {name} is no better than chance ({chance:.2%}): "
            "wrong weights, classes in another order, or another normalisation "
            "(teacher.input)? `teacher.allow_chance: true` trains on it all the same"
        )
    return evaluation.metrics
