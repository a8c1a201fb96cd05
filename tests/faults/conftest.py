"""What the tests of failures share with those of whole runs."""

from tests.unit.kdx.conftest import *  # noqa: F403
from tests.unit.kdx.conftest import _one_thread  # noqa: F401
