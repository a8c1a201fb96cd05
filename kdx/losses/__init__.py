"""The losses that a recipe can name: `- {use: kd, weight: 0.9, temperature: 4}`."""

from collections.abc import Callable, Mapping

from kdx.losses.cross_entropy import CrossEntropy
from kdx.losses.hint import Hint
from kdx.losses.kd import KD
from kdx.losses.pkt import PKT
from kdx.losses.yolo import Yolo
from kdx.losses.yolo_kd import YoloKD
from kdx.protocols import Loss

__all__ = ["KD", "PKT", "TABLE", "CrossEntropy", "Hint", "Yolo", "YoloKD"]

TABLE: Mapping[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "kd": KD,
    "hint": Hint,
    "pkt": PKT,
    "yolo": Yolo,
    "yolo_kd": YoloKD,
}
