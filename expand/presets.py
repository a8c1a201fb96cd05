"""The paper's plans by name (ExpandNets paper, sections 2 and 4, and the counts of Table 13)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["PRESETS"]

_MOBILE = {"conv": "cl", "stem": "expand", "stride": "last"}

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # any network, SmallNet and AlexNet first
        "fc": {"conv": "none", "linear": True},
        "cl": {"conv": "cl"},
        "cl_fc": {"conv": "cl", "linear": True},
        "ck": {"conv": "ck"},
        "ck_fc": {"conv": "ck", "linear": True},
        # networks of timm and torchvision, by the kinds of their layers
        "mobilenet_cl": {**_MOBILE, "select": ("@stem", "@depthwise")},
        "mobilenet_v2_cl": {**_MOBILE, "select": ("@strided",)},
        "shufflenet_v2_cl": {
            **_MOBILE,
            "select": ("@stem", "@depthwise"),
            "depthwise": "channelwise",
        },
        # networks whose parts have these names
        "yolo_lite_cl": {"conv": "cl", "select": ("backbone.*",), "stem": "expand"},
        "unet_cl": {"conv": "cl", "select": ("contracting.*",), "stem": "expand"},
    }
)
"""Options of `expand.plan` by name.

fc, cl, cl_fc, ck, ck_fc: the strategies alone. mobilenet_cl: the stem and all depthwise layers.
mobilenet_v2_cl: the layers with a stride, which are the stem and the depthwise layers of the four
blocks that halve the resolution. shufflenet_v2_cl: as MobileNet's, with a group per inner channel.
yolo_lite_cl: the backbone. unet_cl: the contracting path.
"""
