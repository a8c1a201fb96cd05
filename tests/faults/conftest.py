"""What the tests of failures share with those of whole runs."""

from tests.unit.conftest import (  # noqa: F401 - pytest finds fixtures by their names here
    _one_thread,
    console,
    recipe,
    teacher_run,
)
