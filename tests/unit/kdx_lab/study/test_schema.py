"""A study's file: its forms and defaults, and what is wrong with it, all at once."""

import pytest

from kdx.recipe import RecipeError
from kdx_lab.study.grid import open_study
from kdx_lab.study.schema import Arm, Setting

STUDY = """\
recipe: base.yaml
seeds: [3, 4]
arms: [compact, compact+kd]
"""


def problems(read, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        read(text, *overrides)
    return [str(problem).partition("study.yaml")[2] for problem in caught.value.problems]


def test_what_is_left_out_has_a_default(read):
    study = read("recipe: base.yaml\narms: [compact]\n")
    assert (study.name, study.title, study.baseline, study.errors) == ("", "", "compact", False)
    assert study.seeds == [0, 1, 2, 3, 4]
    assert study.settings == {"": Setting()}
    assert study.losses_without_teacher == [{"use": "cross_entropy"}]
    assert study.overrides == {}


def test_arms_are_a_list_of_names_or_a_mapping(read):
    assert read(STUDY).arms == {"compact": Arm(), "compact+kd": Arm()}
    text = "recipe: a.yaml\narms:\n  compact:\n  wide: {arm: ck, overrides: {epochs: 3}}\n"
    assert read(text).arms == {"compact": Arm(), "wide": Arm(arm="ck", overrides={"epochs": 3})}


def test_a_setting_that_is_left_empty_changes_nothing(read):
    study = read(f"{STUDY}settings:\n  clean:\n  noisy: {{overrides: {{data.label_noise: 0.5}}}}\n")
    assert study.settings["clean"] == Setting()
    assert study.settings["noisy"].overrides == {"data.label_noise": 0.5}


def test_overrides_speak_of_the_study(read):
    study = read(STUDY, "seeds=[7]", "overrides.epochs=3", "name=mine", "arms.0=fc", "baseline=fc")
    assert (study.seeds, study.overrides, study.name) == ([7], {"epochs": 3}, "mine")
    assert list(study.arms) == ["fc", "compact+kd"]


def test_all_problems_are_told_at_once_with_their_lines(read):
    text = """\
seeds: [1, 2, 1]
sedes: [1]
baseline: compct
overrides:
  name: x
  seed: 3
arms:
  compact: {overides: {}}
  ck: {overrides: {name: y}}
"""
    rest = problems(read, text)
    assert rest.pop(2).startswith(":2: sedes: unknown key. Did you mean 'seeds'?")
    assert rest.pop(5).startswith(":8: arms.compact.overides: unknown key. Did you")
    assert [line.partition(" is not an arm.")[0] for line in rest] == [
        ":1: seeds: 1: listed twice",
        ":1: recipe: is missing: name the recipe that the arms are made of",
        ":3: baseline: 'compct'",
        ":5: overrides.name: runs are named by the study: set `name:` at the top level instead",
        ":6: overrides.seed: the study sets the seeds: use `seeds:` at the top level instead",
        ":9: arms.ck.overrides.name: runs are named by the study: "
        "set `name:` at the top level instead",
    ]


def test_wrong_types_hide_no_contradictions(read):
    text = """\
baseline: compct
seeds: [0, x]
arms: {compact: }
grid: {losses: [[], {}]}
tune: {trials: 2, space: {a: 'lg(1)', b: 3}}
"""
    starts = ["recipe: is missing", "baseline: 'compct' is not an arm", "seeds[1]: 'x' is not an i",
              "grid.losses[0]: []: values are", "grid.losses[1]: {}: values are",
              "tune.space.a: 'lg(1)' is not", "tune.space.b: 3 is not a space"]  # fmt: skip
    found = problems(read, text)
    assert len(found) == len(starts)
    for start in starts:
        assert any(start in each for each in found)


def test_a_baseline_that_no_setting_has(read):
    text = "recipe: a.yaml\narms: [compact, ck]\nsettings: {a: {arms: [ck]}}"
    (problem,) = problems(read, text)
    assert problem.endswith("baseline: 'compact' is an arm of no setting: add it to one")


def test_a_setting_names_arms_that_there_are_and_has_a_recipe(read):
    text = """\
arms: [compact, ck]
settings:
  small:
    recipe: a.yaml
    arms:
      - compact
      - kc
  large: {losses_without_teacher: []}
  other: {recpe: 3}
"""
    assert problems(read, text)[2].startswith(":9: settings.other.recpe: unknown key. Did you")
    found = problems(read, text.replace("recpe: 3", "recipe: b.yaml"))
    assert found[0] == ":7: settings.small.arms[1]: 'kc' is not an arm. Known: ck, compact"
    assert found[1].startswith(":8: settings.large.recipe: is missing")
    assert len(found) == 2


def test_names_in_a_list_are_told_by_their_own_lines(read):
    text = "recipe: a.yaml\narms:\n  - compact\n  - compact\n  - {a: 1}\n  - 'a/b'\n"
    assert problems(read, text) == [
        ":4: arms[1]: 'compact' is listed twice",
        ":5: arms[2]: {'a': 1} is not the name of an arm",
        ":6: arms.'a/b': 'a/b' is not a heading: 1 to 60 letters, digits, spaces and any of "
        ".,:=%+-",
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("arms: 3", "arms: 3 is not a mapping"),
        ("arms:", "arms: None is not a mapping"),
        ("arms: []", "arms: has 0 entries, but needs at least 1"),
        ("arms: [3]", "3 is not the name of an arm"),
        ("arms: {a: [1]}", "arms.a: [1] is not a mapping"),
        ("arms: {a: {arm: 3}}", "arms.a.arm: 3 is not a string: put it in quotes"),
        ("arms: {'': {arm: compact}}", "is not a heading"),
        ("arms: [compact]\nsettings: []", "settings: [] is not a mapping"),
        ("arms: [compact]\nsettings: {}", "settings: has 0 entries"),
        ("arms: [compact]\nsettings: {a: 1}", "settings.a: 1 is not a mapping"),
        ("arms: [compact]\nsettings: {a: {arms: []}}", "settings.a.arms: has 0 entries"),
        ("arms: [compact]\noverrides:", "overrides: None is not a mapping"),
        ("arms: [compact]\noverrides: {a=b: 1}", "a key cannot contain '='"),
        ("arms: [compact]\nseeds: [-1]", "seeds[0]: -1"),
        ("arms: [compact]\nseeds: [0.5]", "seeds[0]: 0.5 is not an integer"),
        (f"arms: [compact]\nseeds: {list(range(1001))}", "seeds: has 1,001 entries, but needs at"),
        (f"arms: {[f'a{n}' for n in range(11)]}\nbaseline: a0\nseeds: {list(range(1000))}",
         "too many runs: settings x grid x arms x seeds is 11,000, at most 10,000"),
        (f"arms: [compact]\ngrid: {{{', '.join(f'a{n}: {list(range(1000))}' for n in range(4))}}}",
         "too many runs: settings x grid x arms x seeds is 5,000,000,000,000, at most 10,000"),
        ("arms: [compact]\ngrid: {epochs: [1, 2, 1.0, 1]}",
         "two settings would be called 'epochs = 1': a value is repeated"),
        ("arms: [compact]\nerrors: 1", "errors: 1 is not true or false"),
        ("arms: [compact]\nname: [x]", "name: ['x'] is not a string"),
        ("arms: [compact]\nalone: {use: kd}", ":3: losses_without_teacher: {'use': 'kd'} is not a"),
        ("arms: [compact]\nlosses_without_teacher: 3", "losses_without_teacher: 3 is not a list"),
        ("arms: [compact]\ngrid: {losses: [[{use: kd}]]}",
         "grid.losses[0]: [{'use': 'kd'}]: values are numbers, true/false or strings"),
        ("arms: [compact]\ntune: {trials: 2, space: {a.b: 3}}",
         ":3: tune.space.'a.b': 3 is not a space: use log(low, high)"),
        ("arms: [compact]\ntune: {trials: 2, space: {a: [1, [2]]}}",
         "tune.space.a: [2]: values are numbers, true/false or strings"),
        ("arms: [compact]\ntune: {trials: 2, space: {epochs: 3, lr: 'lgo(1, 2)'}}",
         "tune.space.lr: 'lgo(1, 2)' is not a space"),
        ("student: {use: smallnet}", "this is a recipe, not a study: run it with `kdx distill`"),
    ],
)  # fmt: skip
def test_no_value_is_too_odd_to_be_refused(read, line, said):
    assert any(said in each for each in problems(read, f"recipe: base.yaml\n{line}\n"))


def test_a_dotted_key_below_overrides_is_one_key(read):
    text = "recipe: a.yaml\narms: [compact]\noverrides: {data.validation: 5000, epochs: 3}\n"
    study = read(text, "overrides.data.validation=null", "overrides.epochs=4", "seeds=[7]")
    assert study.overrides == {"data.validation": None, "epochs": 4}
    assert study.seeds == [7]
    assert read("recipe: a.yaml\narms: [compact]", "overrides.a.b=1").overrides == {"a.b": 1}


def test_the_old_name_of_a_key_is_read(read):
    text = """\
recipe: a.yaml
arms: [compact]
alone: [{use: yolo}]
settings: {a: {alone: [{use: kd}]}, b: {}}
"""
    study = read(text)
    assert study.losses_without_teacher == [{"use": "yolo"}]
    assert study.settings["a"].losses_without_teacher == [{"use": "kd"}]
    new = text.replace("alone", "losses_without_teacher")
    assert read(new) == study
    for each in (text, new):
        found = read(each, "alone.0.use=hint", "settings.b.alone=[{use: pkt}]")
        assert found.losses_without_teacher == [{"use": "hint"}]
        assert found.settings["b"].losses_without_teacher == [{"use": "pkt"}]
    assert problems(read, text + "losses_without_teacher: []\n") == [
        ":3: alone: is the old name of `losses_without_teacher`, which is given as well: remove one"
    ]


def test_a_bad_name_or_a_section_that_lacks_a_key_hides_nothing(read):
    text = (
        "recipe: b.yaml\narms: {compact: , 'b/d': {arm: compact}}\nbaseline: nix\nseeds: [1, 1]\n"
    )
    found = problems(read, text + "tune: {trials: 0, space: {}}\n")
    assert [each.split(": ")[1] for each in found] == [
        "arms.'b/d'", "baseline", "seeds", "tune.trials",
    ]  # fmt: skip
    assert found[3].endswith("0 should be greater than or equal to 1")


@pytest.mark.parametrize("section", ["grid: {a=b: [1, 2]}", "overrides: {a=b: 1}"])
def test_a_key_with_an_equals_sign_is_told_once(tmp_path, section):
    (tmp_path / "base.yaml").write_text("student: {use: tests.toys.plain}\ndata: {use: digits}\n")
    (tmp_path / "study.yaml").write_text(f"recipe: base.yaml\narms: [compact]\n{section}\n")
    with pytest.raises(RecipeError, match=r"^\S+: \S+a=b\S*: a key cannot contain '='$"):
        open_study(tmp_path / "study.yaml", plugins=["tests"])
