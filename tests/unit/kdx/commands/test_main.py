import argparse
import importlib
from importlib.metadata import version

import pytest

from kdx.commands.main import VERBS, main

OWN = [verb for verb, (module, _) in VERBS.items() if module.startswith("kdx.")]


def test_help_lists_every_command_on_a_line(capsys):
    assert main(["--help"]) == main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    for verb, (_, line) in VERBS.items():
        assert lines.count(f"  {verb:<11} {line}") == 2
    assert max(map(len, lines)) <= 80


def test_the_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"kdx {version('kdx')}\n"


@pytest.mark.parametrize(
    ("verb", "hint"), [("distil", " Did you mean 'distill'?"), ("xyz", ""), ("--hepl", "")]
)
def test_an_unknown_command_suggests_the_nearest(verb, hint, capsys):
    assert main([verb]) == 2
    expected = f"kdx: unknown command {verb!r}.{hint} `kdx --help` lists them all\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize("verb", OWN)
def test_every_command_keeps_the_contract(verb):
    module = importlib.import_module(VERBS[verb][0])
    assert f"kdx {verb}" in module.__doc__
    parser = argparse.ArgumentParser(prog=f"kdx {verb}")
    module.add_arguments(parser)
    assert all(action.help for action in parser._actions)
    assert callable(module.run)


@pytest.mark.parametrize("verb", OWN)
def test_the_help_of_a_command_is_its_modules_docstring(verb, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    said = capsys.readouterr().out
    assert said.startswith(f"usage: kdx {verb} ")
    assert importlib.import_module(VERBS[verb][0]).__doc__.splitlines()[0] in said
    assert max(map(len, said.splitlines())) <= 100


def test_wrong_arguments_exit_with_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["distill", "x.yaml", "--resume", "--overwrite"])
    assert "argument --overwrite: not allowed with argument --resume" in capsys.readouterr().err


def test_overrides_may_stand_between_options(monkeypatch):
    seen = {}
    monkeypatch.setattr("kdx.commands.distill.run", lambda args: seen.update(vars(args)))
    assert main(["distill", "a.yaml", "--resume", "epochs=3", "--output-root", "x", "seed=1"]) == 0
    assert (seen["overrides"], seen["output_root"]) == (["epochs=3", "seed=1"], "x")


def test_which_commands_resume_and_have_batches(monkeypatch):
    asked = []

    def guarded(main, *, resumes, has_batches):
        asked.append((resumes, has_batches))
        return 0

    monkeypatch.setattr("kdx.commands.main.guarded", guarded)
    for verb in ("distill", "memo", "evaluate"):
        assert main([verb, "a.yaml"]) == 0
    assert asked == [(True, True), (False, True), (False, False)]


def test_exit_codes_are_passed_on(tmp_path, capsys):
    assert main(["distill", str(tmp_path / "absent.yaml")]) == 2
    assert "absent.yaml" in capsys.readouterr().err
