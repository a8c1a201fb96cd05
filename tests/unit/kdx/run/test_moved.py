"""A run directory is resumed, evaluated and compressed wherever it lies, from anywhere."""

import json
import shutil

import pytest
from rich.console import Console

from kdx.commands.compress import compress
from kdx.commands.evaluate import evaluate
from kdx.commands.main import main
from kdx.recipe import load
from kdx.run.fork import open_fork
from kdx.run.run import run
from kdx.training.state import TrainState
from kdx.util.errors import Stopped
from tests.faults.resuming import stop_after
from tests.unit.kdx.data.sets.pictures import picture_folder
from tests.unit.runs import contents, same

QUIET = Console(quiet=True)
