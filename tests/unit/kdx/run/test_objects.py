"""Runs of Python objects: what the recipe says of them; resumed, or with a memo, they are equal."""

from functools import partial

import pytest
import torch
from torch import nn
from torchvision.transforms import v2

import expand
import kdx
from kdx.run.objects import recipe_of_objects
from tests.toys import Conditional, plain
from tests.unit.kdx.run.made_of_objects import Digits, network


def exported(run):
    return (run.path / "student.safetensors").read_bytes()


def test_objects_are_trained_and_left_as_they_are(distill_objects):
    student, teacher = network(plain), network(plain, seed=1)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    run = distill_objects(
        student=student,
        teacher=teacher,
        losses={"labels": (0.25, kdx.losses.CrossEntropy()), "soft": kdx.losses.KD(temperature=2)},
        transforms=[expand.ExpandNet(conv="cl", rate=2)],
        optimizer=partial(torch.optim.AdamW, lr=0.01),
        schedule=partial(kdx.schedules.cosine, end=0.5),
        **{"teacher.allow_chance": True},
    )
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
    assert all(parameter.requires_grad for parameter in teacher.parameters())
    assert not run.student.training
    assert run.path.parts[-2:] == ("python", "sequential")
    assert run.certificate.parameters["trained"] > run.certificate.parameters["compact"]
    assert run.summary.epochs == 2
    recipe = (run.path / "recipe.yaml").read_text()
    assert recipe.startswith("# Started from Python by kdx.distill(")
    for shown in ("use: object:Digits", "use: object:Sequential", "temperature: 2", "weight: 0.25",
                  "name: soft", "use: AdamW\n  lr: 0.01", "use: cosine\n  end: 0.5"):  # fmt: skip
        assert shown in recipe
    images = run.summary.test_images
    data = kdx.data.from_datasets(Digits(64), Digits(32, test=True))
    views = kdx.data.Views(data.test, data.input, seed=0)
    batch = views.__getitems__([(0, index) for index in range(images)])
    hits = (run.student(batch.images).argmax(1) == batch.targets).float().mean()
    assert run.metrics["top1"] == pytest.approx(float(hits))
    report = (run.path / "report.md").read_text()
    assert f'load_student("{run.path}", network=Sequential(...))' in report


def test_no_command_runs_the_recipe_again(distill_objects):
    run = distill_objects(epochs=1)
    match = r"recipe.yaml:6: data.use: 'object:Digits' is a Python object, which a recipe cannot"
    with pytest.raises(kdx.RecipeError, match=match):
        kdx.distill(run.path / "recipe.yaml")
    with pytest.raises(ValueError, match=r"does not say how to build its network: it is 'object:S"):
        kdx.load_student(run.path)
    again = kdx.load_student(run.path, network=network(seed=5))
    trained = run.student.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in again.state_dict().items())


def test_a_mixed_and_repeated_dataset(distill_objects):
    """64 images in batches of 16: 8 samples, twice, in each."""
    options = {"epochs": 1, "mixup": 0.4, "cutmix": 1.0, "repeats": 2}
    run = distill_objects(name="mixed", **options)
    text = (run.path / "recipe.yaml").read_text()
    assert "  mixup: 0.4\n  cutmix: 1.0\n  repeats: 2\n" in text
    assert exported(run) != exported(distill_objects(name="plain", epochs=1))
    assert exported(run) == exported(distill_objects(name="again", workers=2, **options))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_and_resumed_run_is_the_same(distill_objects, workers):
    whole = distill_objects(name="whole")
    stopping = Digits(64, stop_at=64 + 64 + 25)  # 64 for the digest, then in the second epoch
    with pytest.raises(kdx.Stopped, match="stopped by a signal"):
        distill_objects(name="stopped", train=stopping)
    resumed = distill_objects(name="stopped", resume=True, workers=workers)
    assert exported(resumed) == exported(whole)
    assert resumed.metrics == whole.metrics
    assert exported(distill_objects(name="stopped", resume=True)) == exported(whole)  # finished


def test_a_resume_with_other_objects_is_refused(distill_objects):
    options = {"teacher": network(seed=1), "name": "run", "teacher.allow_chance": True}
    distill_objects(losses=[kdx.losses.KD(temperature=2)], **options)
    with pytest.raises(ValueError, match=r"losses.0.temperature: 2, now 4"):
        distill_objects(losses=[kdx.losses.KD(temperature=4)], resume=True, **options)


def test_several_teachers_by_name(distill_objects):
    """Their mean is that of one of them, if they are equal."""
    allowed = {"teachers.a.allow_chance": True, "teachers.b.allow_chance": True}
    several = {"a": network(seed=1), "b": network(seed=1)}
    losses = [{"use": "kd", "teacher": "b"}, kdx.losses.KD()]
    run = distill_objects(teacher=several, losses=losses, name="several", **allowed)
    assert run.summary.teachers["a"] == run.summary.teachers["b"]
    assert run.summary.teacher["top1"] == run.summary.teachers["a"]["top1"]
    one = distill_objects(teacher=several["a"], losses=[(2, kdx.losses.KD())], name="one",
                  **{"teacher.allow_chance": True})  # fmt: skip
    for name, value in run.student.state_dict().items():
        torch.testing.assert_close(value, one.student.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_students_moving_average_teaches(distill_objects):
    losses = {"task": kdx.losses.CrossEntropy(), "self": {"use": "mse", "to": "teacher"}}
    own = {"use": "ema", "decay": 0.5}
    sections = [
        recipe_of_objects(student=network(), train=0, test=0, teacher=each, losses=losses)[0]
        for each in ("ema", own, {"big": network(), "self": own})
    ]
    assert [each.get("teacher") for each in sections] == [{"use": "ema"}, own, None]
    assert sections[2]["teachers"]["self"] == own
    assert distill_objects(teacher="ema", losses=losses, epochs=1).summary.epochs == 1
    with pytest.raises(ValueError, match=r"teacher\.memo: not for the student's moving average"):
        distill_objects(teacher="ema", losses=losses, memo={"views": 1})
    with pytest.raises(ValueError, match=r"teacher\.use: 'emma' is not a network"):
        distill_objects(teacher="emma", losses=losses)


def test_runs_with_a_memo_are_the_same(distill_objects, tmp_path):
    options = {"teacher": network(seed=1), "losses": [kdx.losses.KD()],
               "teacher.allow_chance": True}  # fmt: skip
    live = distill_objects(name="live", **options)
    assert not (tmp_path / "memos").exists()  # not by default: views change
    memo = {"views": 2, "dtype": "float32"}
    assert exported(distill_objects(name="filling", memo=memo, **options)) == exported(live)
    assert len(list((tmp_path / "memos").iterdir())) == 1
    assert exported(distill_objects(name="reading", memo=memo, **options)) == exported(live)
    assert len(list((tmp_path / "memos").iterdir())) == 1


def of(**given):
    objects = {"student": plain(num_classes=10, in_channels=1), "train": [], "test": []}
    return recipe_of_objects(**objects, **given)[0]


class Own(torch.optim.SGD):
    """An optimizer that torch.optim does not have."""


def half(step, steps, steps_per_epoch):
    return 0.5


def test_optimizers_and_schedules_are_mappings_classes_and_functions():
    assert of(optimizer={"use": "SGD", "lr": 1})["optimizer"] == {"use": "SGD", "lr": 1}
    assert of(optimizer=torch.optim.Adam)["optimizer"] == {"use": "Adam"}
    built = of(optimizer=partial(Own, lr=0.5, momentum=0.25))["optimizer"]["use"]
    assert (built.use, built.arguments) == ("object:Own", {"lr": 0.5, "momentum": 0.25})
    optimizer = built.build(params=[nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is Own
    assert optimizer.param_groups[0]["momentum"] == 0.25
    assert of(schedule=kdx.schedules.cosine)["schedule"] == {"use": "cosine"}
    assert of(schedule={"use": "linear"})["schedule"] == {"use": "linear"}
    built = of(schedule=half)["schedule"]["use"]
    assert built.use == "object:half"
    assert built.build()(0, 1, 1) == 0.5


def test_losses_are_objects_mappings_and_pairs():
    loss = kdx.losses.KD(temperature=3)
    first, second, third = of(losses=[loss, (0.5, {"use": "kd"}), (2, loss)])["losses"]
    expected = {"temperature": 3, "standardize": False, "num_classes": None}
    assert first["use"].arguments == expected
    assert second == {"use": "kd", "weight": 0.5}
    assert (third["use"].use, third["weight"]) == ("object:KD", 2)
    assert first["use"].build().temperature == 3
    assert first["use"].build() is not loss
    assert of(losses=loss)["losses"][0]["use"].use == "object:KD"
    assert of(losses={"a": (1, loss)})["losses"][0]["name"] == "a"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"memo": {"views": 2}}, r"memo: \{'views': 2\} has no teacher whose outputs to store"),
        ({"teacher": nn.Linear(1, 1)}, r"losses: missing: with a teacher, .*KD\(temperature=4\)"),
        ({"losses": [(kdx.losses.KD, 0.5)]}, r"losses\[0\]: float is not a loss"),
        ({"losses": [nn.Linear(1, 1)]}, r"losses\[0\]: Linear is not a loss"),
        ({"transforms": [v2.Identity()]}, r"\[0\]: Identity is not .* belongs in the dataset"),
        ({"transforms": Conditional(read=False)}, r"transforms\[0\]: Conditional is not a trans"),
        ({"transforms": [Conditional(read=False)]}, r"transforms\[0\]: Conditional is not a trans"),
        ({"teacher": torch.zeros(1), "losses": []}, r"teacher: Tensor is not a network"),
        ({"optimizer": "SGD"}, r"optimizer: str is not an optimizer's class"),
        ({"optimizer": Own([nn.Parameter(torch.zeros(1))])}, r"optimizer: Own is not an optimizer"),
        ({"optimizer": nn.Linear}, r"optimizer: Linear is not an optimizer's class"),
    ],
)
def test_unfit_objects_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        of(**given)


def test_problems_of_objects_name_their_place(distill_objects):
    with pytest.raises(kdx.RecipeError, match=r"student.width: an object takes no arguments here"):
        distill_objects(**{"student.width": 3})
    message = r"kdx.distill: train: 'object:list': train: list is empty"
    with pytest.raises(ValueError, match=message):
        distill_objects(train=[])
    with pytest.raises(kdx.RecipeError, match=r"epochs: 0 should be"):
        distill_objects(epochs=0)
    with pytest.raises(ValueError, match=r"undertrained, or know other classes"):
        distill_objects(teacher=network(seed=1), losses=[kdx.losses.KD()])
