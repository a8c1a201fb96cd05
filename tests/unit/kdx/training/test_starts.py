"""Where a student and a teacher start: parts of files, new heads, and what is said of them."""

import pytest
import torch
from torch import nn

from kdx.commands.evaluate import evaluate
from kdx.commands.plan import dry_run
from kdx.models import weights
from kdx.models.networks import build_student
from kdx.recipe import RecipeError, load
from kdx.run.interface import load_student
from kdx.run.run import run
from kdx.training.job import build, build_data

__all__ = ["headless"]

HEAD = {"fc2.weight", "fc2.bias"}


def student_of(recipe, notes=None):
    found = [] if notes is None else notes
    return build_student(recipe, build_data(recipe)[0], found.append)


@pytest.fixture
def thousand(recipe, tmp_path):
    """Return the path of a checkpoint of 1,000 classes, and its state dict."""
    state = student_of(recipe("seed=7")).state_dict()
    state |= {"fc2.weight": torch.ones(1000, 64), "fc2.bias": torch.ones(1000)}
    torch.save({"state_dict": state, "epoch": 3}, path := tmp_path / "thousand.pth")
    return path, state


def check_body(module, state):
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]) != (name in HEAD), name


def test_a_student_with_a_new_head(recipe, thousand):
    path, state = thousand
    notes = []
    plain = recipe()
    given = recipe(f"student.weights={{path: {path}, head: new}}")
    torch.manual_seed(0)
    student = student_of(given, notes)
    check_body(student, state)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    fresh = student_of(plain)
    assert torch.equal(fresh.fc2.weight, student.fc2.weight)
    assert torch.equal(torch.rand(1), drawn)  # the second network took no random numbers
    assert notes == [
        f"student.weights: {path}: state dict at 'state_dict'; new, not loaded: fc2.bias, "
        "fc2.weight; also in the file: 'epoch'"
    ]


def test_a_removed_head_may_be_new(recipe, thousand, tmp_path):
    path, state = thousand
    torch.save({n: v for n, v in state.items() if n not in HEAD}, path)
    check_body(student_of(recipe(f"student.weights={{path: {path}, head: new}}")), state)
    with pytest.raises(
        ValueError, match=r"\n  missing keys \(2\): fc2.weight, fc2.bias\n  to start"
    ):
        student_of(recipe(f"student.weights={path}"))


def test_what_does_not_fit_names_the_key_the_network_and_a_way(recipe, thousand):
    path, _ = thousand
    with pytest.raises(ValueError, match="shape mismatch") as caught:
        student_of(recipe(f"student.weights={path}"))
    first, *_, last = str(caught.value).splitlines()
    assert first == (f"student.weights: {path}: state dict does not match the network smallnet")
    assert last == f"  to start with a new head: weights: {{path: {path}, head: new}}"
    with pytest.raises(ValueError, match=r"^teacher\.weights: .* the network tests\.toys\.plain"):
        build(recipe(f"teacher={{use: tests.toys.plain, weights: {path}}}", "losses=[{use: kd}]"))
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"^student\.weights: .*\n  missing keys") as caught:
        student_of(recipe(f"student.weights={path}"))
    assert "head" not in str(caught.value)


def test_files_that_cannot_be_read_are_named_with_their_key(recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^student\.weights: a.pth: no such file"):
        student_of(recipe("student.weights=a.pth"))
    (tmp_path / "a.safetensors").write_bytes(b"broken")
    broken = f"{tmp_path}/a.safetensors"
    with pytest.raises(ValueError, match=r"^student\.weights: .*: not a readable safetensors file"):
        student_of(recipe(f"student.weights={broken}"))
    teacher = f"teacher={{use: smallnet, weights: {broken}}}"
    with pytest.raises(ValueError, match=r"^teacher\.weights: .*: not a readable safetensors file"):
        build(recipe(teacher, "losses=[{use: kd}]"))


def test_a_teacher_with_a_new_head(recipe, thousand):
    path, state = thousand
    teacher = f"teacher={{use: smallnet, weights: {{path: {path}, head: new}}}}"
    job = build(recipe(teacher, "losses=[{use: kd}]"))
    check_body(job.teachers["teacher"].module, state)
    assert job.notes[0].startswith("teacher.weights: ")


def test_weights_of_other_classes_by_their_metadata(recipe, thousand, tmp_path):
    _, state = thousand
    path, spec = tmp_path / "a.safetensors", build_data(recipe())[0].input
    weights.save(state, path, input=spec, classes=1000, extra={"class_names": ["b", "a"]})
    given = f"{{path: {path}, head: new}}"
    teacher = f"teacher={{use: smallnet, weights: {given}}}"
    job = build(recipe(f"student.weights={given}", teacher, "losses=[{use: kd}]"))
    check_body(job.compact, state)
    check_body(job.teachers["teacher"].module, state)
    with pytest.raises(ValueError, match=r"has 1,000 classes, .* new head: \{path: .*, head: new"):
        student_of(recipe(f"student.weights={path}"))


def headless(in_channels: int = 1) -> nn.Module:
    return nn.Sequential(nn.Conv2d(in_channels, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def test_a_network_without_a_head_has_no_new_one(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "data: {use: digits}\n"
        f"student: {{use: {__name__}.headless, weights: {{path: a.pth, head: new}}}}\n"
    )
    with pytest.raises(
        ValueError, match=r"^student\.weights\.head: no tensor of .*headless depends on the number"
    ):
        student_of(load(tmp_path / "a.yaml", plugins=[__name__]))


def test_a_run_with_a_new_head_is_said_trained_and_resumed(recipe, thousand, console):
    path, _ = thousand
    given = recipe(f"student.weights={{path: {path}, head: new}}")
    dry_run(given, console)
    assert "note: student.weights: " in console.file.getvalue()
    run_dir = run(given, console)
    assert "note     student.weights: " in console.file.getvalue()
    again = load(run_dir / "recipe.yaml", output_root=given.locations.output_root)
    assert again.plain() == given.plain()
    assert again.student.file == given.student.file
    assert run(given, console, resume=True) == run_dir


def test_a_teacher_at_chance_for_its_new_head_is_said_so(recipe, thousand, console):
    teacher = f"teacher={{use: smallnet, weights: {{path: {thousand[0]}, head: new}}}}"
    with pytest.raises(ValueError, match=r"chance.*Its head is new \(teacher.weights.head\)"):
        run(recipe(teacher, "losses=[{use: kd}]"), console)


def test_a_mapping_with_a_path_alone_is_a_path(recipe):
    assert (
        recipe("student.weights={path: runs/a}").plain() == recipe("student.weights=runs/a").plain()
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("3", "student.weights: 3 is not a string"),
        ("[]", r"student.weights: \[\] is not a string"),
        ("''", "student.weights: "),
        ("{key: model}", "student.weights.path: is missing"),
        ("{path: a, key: 3}", "student.weights.key: 3 is not a string"),
        ("{path: a, head: old}", "student.weights.head: 'old' "),
        ("{path: a, name: b}", "student.weights.name: unknown key. Known: head, key, path"),
    ],
)
def test_weights_that_are_none(recipe, given, message):
    with pytest.raises(RecipeError, match=message):
        recipe(f"student.weights={given}")


def test_a_key_of_a_recipe_and_of_commands(recipe, teacher_run, tmp_path):
    plain = load_student(teacher_run)
    path = tmp_path / "several.ckpt"
    other = {name: torch.zeros_like(value) for name, value in plain.state_dict().items()}
    torch.save({"model": other, "ema": {"module": plain.state_dict()}}, path)
    student = student_of(recipe(f"student.weights={{path: {path}, key: ema}}"))
    assert torch.equal(student.fc2.weight, plain.fc2.weight)
    loaded = load_student(path, network=student_of(recipe()), key="ema")
    assert torch.equal(loaded.fc2.weight, plain.fc2.weight)
    limits = ("data.limit=256", "teacher=null")
    told = evaluate(path, teacher_run / "recipe.yaml", key="ema", overrides=limits)
    assert told.metrics == evaluate(teacher_run, overrides=limits).metrics
    with pytest.raises(ValueError, match=r"does not match the network Linear\n"):
        load_student(path, network=nn.Linear(2, 2))
