"""Rewritings of a network that hold during training only: ExpandNets, OREPA, DBB and others.

    expanded = expand.expand(model, conv="ck", linear=True, rate=4)
    compact = expand.compress(expanded)

Needs torch alone.
"""

from expand.blocks import DBB, ACNet, MobileOne, RepVGG
from expand.copying import copied
from expand.doconv import DOConv
from expand.leaves import Leaves
from expand.making import compress
from expand.network import Hold, set_mode, units
from expand.orepa import OREPA
from expand.planning import LayerPlan, Plan
from expand.presets import PRESETS
from expand.settings import Options, Settings
from expand.transform import ExpandNet, expand, plan
from expand.units import ExpandedUnit

__all__ = [
    "DBB",
    "OREPA",
    "PRESETS",
    "ACNet",
    "DOConv",
    "ExpandNet",
    "ExpandedUnit",
    "Hold",
    "LayerPlan",
    "Leaves",
    "MobileOne",
    "Options",
    "Plan",
    "RepVGG",
    "Settings",
    "compress",
    "copied",
    "expand",
    "plan",
    "set_mode",
    "units",
]
