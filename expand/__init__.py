"""ExpandNets: linear over-parameterisation that holds during training only.

    expanded = expand.expand(model, conv="ck", linear=True, rate=4)
    compact = expand.compress(expanded)

Needs torch alone.
"""

from expand.blocks import DBB, ACNet, MobileOne, RepVGG
from expand.copying import copied
from expand.network import Hold, set_mode, units
from expand.planning import LayerPlan, Plan, plan
from expand.presets import PRESETS
from expand.settings import Options, Settings
from expand.sums import OREPA, DOConv
from expand.transform import ExpandNet, compress, expand
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
