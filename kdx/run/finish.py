"""The end of a run: restore, certify, export and report."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdx.data import Views
from kdx.models import weights
from kdx.models.certificate import Certificate, certify, count_parameters
from kdx.models.modes import eval_mode
from kdx.models.networks import empty_student
from kdx.models.transforms import exact, restore, simulations
from kdx.protocols import StudentTransform
from kdx.report import write_report_page
from kdx.report.summary import Summary, write_summary
from kdx.run.class_tables import to_log
from kdx.run.classes import Classes, ClassObserver, write_classes
from kdx.run.compared import metric_tolerances, spread_images
from kdx.run.environment import environment
from kdx.run.pictures import with_pictures, write_pictures
from kdx.run.printed import print_result
from kdx.run.report import write_report
from kdx.tasks import numbers_of, reached_by_luck
from kdx.training.health import diverged, is_finite
from kdx.training.log import RunLog
from kdx.training.progress import Progress
from kdx.training.runtime import Runtime
from kdx.util.copies import copied
from kdx.util.errors import CertificateError
from kdx.util.files import move, write_whole

FEW = 50  # test images, which chance may name correctly
UNCERTIFIED = "student.uncertified.safetensors"  # the exported file until its certificate holds


@dataclass(frozen=True)
class _Student:
    """The trained network, and the compact one that was read from the exported file, evaluated.

    `test` are the compact one's metrics on the test images; `metrics` are those of "trained" and
    "compact" on the evaluation split, `simulated` those of what the training simulates, by name.
    """

    trained: nn.Module
    transforms: Sequence[StudentTransform]
    is_average: bool
    compact: nn.Module
    test: dict[str, float]
    metrics: Mapping[str, dict[str, float]]
    simulated: dict[str, dict[str, float]]
    classes: Classes | None


def finish(
    runtime: Runtime,
    progress: Progress,
    log: RunLog,
    *,
    teachers: Mapping[str, dict[str, float]],
    forked_from: str | None = None,
) -> list[str]:
    """Restore the compact student, certify and export it, and write classes, report and summary.

    `teachers` are the metrics of `check_teachers`, `forked_from` is the checkpoint that the run
    started from. Returns the certificate's problems, the same on every process; if there are any,
    the student is not exported. Raises TrainingError if the outputs are not finite.
    """
    job, run_dir = runtime.job, runtime.job.recipe.run_dir
    main, candidate = runtime.accelerator.is_main_process, run_dir / UNCERTIFIED
    _, source = runtime.evaluation_source()
    evaluated, tested = (
        Views(each, job.data.input, seed=job.recipe.seed) for each in (source, job.splits.test)
    )
    images = spread_images(evaluated) if main else []
    try:
        student = _restored(runtime, progress, images, candidate)
        if not main:
            return runtime.agree([])
        certificate = _certified(runtime, student, images)
        text = json.dumps(certificate.to_json(), indent=2)
        write_whole(run_dir / "certificate.json", f"{text}\n")
        if not certificate.problems:
            move(candidate, run_dir / weights.FILE_IN_RUN)
    finally:
        if main:
            candidate.unlink(missing_ok=True)
    if not certificate.problems:
        counts = certificate.parameters
        summary = _summary(runtime, progress, student, counts, teachers, forked_from)
        pictures = write_pictures(run_dir, student.compact, job.task, tested)
        if classes := student.classes:
            classes = replace(classes, worst=with_pictures(run_dir, classes.worst, tested))
            write_classes(run_dir, classes)
            log.exported(to_log(classes))
        about = {"input": job.data.input, "pictures": pictures, "classes": classes}
        write_report(run_dir, job.recipe, summary, certificate, **about)
        write_report_page([run_dir], summary=summary)
        write_summary(run_dir, summary)  # last: it marks the run as finished
        tells = job.task.chance and summary.test_images >= FEW
        luck = reached_by_luck(job.task, summary.test_images) if tells else -inf
        print_result(summary, certificate, classes, run_dir, log.console, luck=luck)
    return runtime.agree(certificate.problems)


def _restored(
    runtime: Runtime, progress: Progress, images: Sequence[Tensor], file: Path
) -> _Student:
    """Export the student, or its average, to `file`, and evaluate it; all processes call it."""
    job = runtime.job
    is_average = progress.best_is_average
    if job.recipe.select == "last":
        is_average = runtime.prefers_average(progress.last, progress.last_average)
    trained, transforms = job.student, job.transforms
    if is_average and runtime.average:  # it is compact already
        trained, transforms = runtime.average.module, ()
    _check_outputs(runtime, trained, images)
    about = simulations(trained, transforms)
    compact = _exported(
        runtime, file, lambda: restore(copied(trained).to("cpu"), transforms), about
    )
    observer = ClassObserver(job.task, job.data.classes, runtime.accelerator.device)
    test = runtime.evaluate(compact, job.splits.test, observer.observers).metrics
    simulated = runtime.evaluate(trained, job.splits.test).metrics if about else {}
    _, source = runtime.evaluation_source()
    same = source is job.splits.test
    with exact(trained, transforms):
        metrics = {
            "trained": runtime.evaluate(trained, source).metrics,
            "compact": test if same else runtime.evaluate(compact, source).metrics,
        }
    classes = observer.report("test", job.splits.test, gather=runtime.gather)
    simulated = dict.fromkeys(about, simulated)
    return _Student(trained, transforms, is_average, compact, test, metrics, simulated, classes)


def _certified(runtime: Runtime, student: _Student, images: Sequence[Tensor]) -> Certificate:
    trained, transforms, metrics = student.trained, student.transforms, student.metrics
    count = len(runtime.evaluation_source()[1])
    with exact(trained, transforms):
        certificate = certify(
            trained,
            lambda network: restore(network, transforms),
            images,
            runtime.job.recipe.tolerance,
            exported=student.compact,
            decide=runtime.job.task.decide,
            metrics=metrics,
            metric_tolerances=metric_tolerances(runtime, metrics["trained"], count),
        )
    counts = certificate.parameters | {"trained": count_parameters(runtime.job.student)}
    return replace(certificate, parameters=counts)


def _summary(
    runtime: Runtime,
    progress: Progress,
    student: _Student,
    parameters: dict[str, int],
    teachers: Mapping[str, dict[str, float]],
    forked_from: str | None,
) -> Summary:
    job, classes = runtime.job, student.classes
    return Summary(
        name=job.recipe.name,
        evaluated_on=runtime.evaluation_source()[0],
        exported_epoch=progress.best_epoch if job.recipe.select == "best" else progress.epochs,
        last=progress.last,
        best=progress.best,
        best_epoch=progress.best_epoch,
        test=student.test,
        test_images=len(job.splits.test),
        parameters=parameters,
        epochs=progress.epochs,
        seconds=progress.seconds,
        images_per_second=progress.images / progress.seconds,
        teacher=next(iter(teachers.values())) if len(teachers) == 1 else teachers.get(""),
        average=progress.last_average or None,
        exported="average" if student.is_average else "student",
        teachers={name: m for name, m in teachers.items() if name} if len(teachers) > 1 else {},
        environment=environment(runtime),
        headings=dict(job.task.metrics),
        train=progress.train or None,
        forked_from=forked_from,
        preprocessing=job.about["preprocessing"],
        stopped_early=progress.stopped_early,
        simulated=student.simulated,
        numbers=numbers_of(job.task),
        best_is_average=progress.best_is_average,
        by_class=classes.values if classes else None,
        ece=classes.calibration["ece"] if classes and classes.calibration else None,
    )


def _check_outputs(runtime: Runtime, student: nn.Module, images: Sequence[Tensor]) -> None:
    """Raise TrainingError, on every process, if the main one finds outputs that are not finite."""
    with torch.no_grad(), eval_mode(student), runtime.held():
        fine = all(is_finite(student(runtime.to_device(each))) for each in images)
    if not runtime.agree(fine):
        what = "the student's outputs contain NaN or Inf"
        raise diverged(what, "after the last step; nothing was exported")


def _exported(
    runtime: Runtime, file: Path, compact: Callable[[], nn.Module], about: Mapping[str, Any]
) -> nn.Module:
    """Write the `compact` student to `file`; return the network that is read from it.

    `about` is added to the file's metadata.
    The main process writes and reads; all have the tensors that it read. CertificateError for a
    file that does not load.
    """
    job = runtime.job
    network = empty_student(job.recipe, job.data)
    if runtime.accelerator.is_main_process:
        extra = {**job.about, **about}
        weights.save(compact(), file, input=job.data.input, classes=job.classes, extra=extra)
        try:
            weights.load(network, file)
        except ValueError as error:
            raise CertificateError(f"{error}; nothing was exported") from error
    network.to(runtime.accelerator.device)
    runtime.share(network.state_dict().values())
    return network
