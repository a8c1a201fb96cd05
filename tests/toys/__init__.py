"""Plug-ins that the tests bring, as recipes name them: `tests.toys.plain`."""

from tests.toys.networks import (
    ChannelsLast,
    Otherwise,
    Pair,
    dropping,
    keeping,
    lazy,
    plain,
    pointwise,
    published,
    secretive,
    tied,
)
from tests.toys.plugins import Conditional, Darker, Faulty, Fickle, Ledger, Rescale, Slow

__all__ = [
    "ChannelsLast", "Conditional", "Darker", "Faulty", "Fickle", "Ledger", "Otherwise", "Pair",
    "Rescale", "Slow", "dropping", "keeping", "lazy", "plain", "pointwise", "published",
    "secretive", "tied",
]  # fmt: skip
