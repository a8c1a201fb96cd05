import argparse
from pathlib import Path

import pytest

from kdx.commands.shared import guarded


@pytest.fixture
def run(monkeypatch):
    """Return a function: a module of commands and its arguments to the exit code."""
    monkeypatch.delenv("KDX_DEBUG", raising=False)

    def run(command, *arguments: str | Path) -> int:
        parser = argparse.ArgumentParser(prog="kdx")
        command.add_arguments(parser)
        parse = parser.parse_args if parser._subparsers else parser.parse_intermixed_args
        args = parse([str(each) for each in arguments])
        return guarded(lambda: command.run(args))

    return run
