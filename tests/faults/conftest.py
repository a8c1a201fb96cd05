"""What the tests of failures share with those of whole runs."""

from tests.unit.kdx.conftest import *  # noqa: F403
