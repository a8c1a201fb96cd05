import json
import re
from pathlib import Path

import jsonschema
import pytest

from kdx.commands.main import main
from kdx.commands.schema import schema_of
from kdx.recipe.errors import Report
from kdx.recipe.yaml_source import read_mapping

CONFIGS = Path(__file__).resolve().parents[4] / "configs"
FILES = {
    "recipe": sorted(CONFIGS.glob("*/*.yaml")),
    "study": sorted(CONFIGS.glob("studies/*/*.yaml")),
}


@pytest.fixture(scope="module", params=FILES)
def what(request):
    return request.param


@pytest.fixture(scope="module")
def check():
    """Return a function that yields what the schema finds wrong: (path, message)."""
    validator = jsonschema.Draft202012Validator(schema_of("recipe"))

    def check(**changes):
        data = {"data": {"use": "digits"}, "student": {"use": "smallnet"}} | changes
        return [(list(e.absolute_path), e.message) for e in validator.iter_errors(data)]

    return check


def test_the_committed_schema_is_current(what):
    committed = json.loads((CONFIGS / "schema" / f"{what}.json").read_text())
    again = f"run: kdx schema {what} -o configs/schema/{what}.json"
    assert committed == schema_of(what), again


def test_every_shipped_file_is_valid_and_names_the_schema(what):
    schema = schema_of(what)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert FILES[what]
    for path in FILES[what]:
        data = read_mapping(path, Report(str(path)), "a mapping")
        assert [(path.name, error.message) for error in validator.iter_errors(data)] == []
        first = path.read_text().splitlines()[0]
        named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert named, path
        assert (path.parent / named[1]).resolve() == CONFIGS / "schema" / f"{what}.json"


def test_a_small_recipe_is_valid(check):
    assert check() == []
    assert check(losses=[{"use": "kd", "temperature": 2, "weight": 0.5}], clip=1.5) == []
    assert check(stages=[{"phase": "linear", "optimizer": {"use": "SGD", "lr": 0.1}}]) == []


@pytest.mark.parametrize(
    ("changes", "path", "message"),
    [
        ({"epoch": 3}, [], "'epoch' was unexpected"),
        ({"data": {"use": "digits", "sizes": 3}}, ["data"], "'sizes' was unexpected"),
        ({"data": {"use": "image_folder"}}, ["data"], "'root' is a required property"),
        ({"data": {"use": "digit"}}, ["data", "use"], "'digit' is not valid"),
        ({"data": {}}, ["data"], "'use' is a required property"),
        ({"optimizer": {"use": "SGD"}}, ["optimizer"], "'lr' is a required property"),
        ({"schedule": {"use": "cosine", "gamma": 1}}, ["schedule"], "'gamma' was unexpected"),
        (
            {"stages": [{"losses": [{"use": "kd", "temperature": "4"}]}]},
            ["stages", 0],
            "is not valid under any",
        ),
        (
            {"losses": [{"use": "kd", "temperature": "4"}]},
            ["losses", 0, "temperature"],
            "'4' is not of type 'number'",
        ),
        (
            {"student": {"use": "smallnet", "transforms": [{"use": "expand.ExpandNet", "rat": 1}]}},
            ["student", "transforms", 0],
            "'rat' was unexpected",
        ),
    ],
)
def test_mistakes_are_found_where_they_are(check, changes, path, message):
    ((where, said),) = check(**changes)
    assert where[: len(path)] == path
    assert message in said


def test_any_dotted_name_is_allowed_with_any_arguments(check):
    assert check(student={"use": "my_pkg.nets.small", "width": 3, "weights": "a.pth"}) == []
    assert check(student={"use": "timm", "name": "resnet18", "drop_rate": 0.1}) == []


def test_plugins_are_checked_as_well(check):
    schema = schema_of("recipe", plugins=["tests.toys"])
    data = {"data": {"use": "digits"}, "student": {"use": "smallnet"}}
    bad = data | {"losses": [{"use": "tests.toys.Slow", "minutes": 3}]}
    (error,) = jsonschema.Draft202012Validator(schema).iter_errors(bad)
    assert "'minutes' was unexpected" in error.message


def test_it_is_printed_or_written(tmp_path, capsys):
    assert main(["schema", "study"]) == 0
    printed = capsys.readouterr().out
    assert main(["schema", "study", "-o", str(tmp_path / "study.json")]) == 0
    assert (tmp_path / "study.json").read_text() == printed
    assert json.loads(printed) == schema_of("study")
