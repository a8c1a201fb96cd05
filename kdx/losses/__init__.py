"""The losses that a recipe can name: `- {use: kd, weight: 0.9, temperature: 4}`."""

from collections.abc import Callable, Mapping

from kdx.losses.at import AT
from kdx.losses.bce import BCE
from kdx.losses.bce_kd import BCEKD
from kdx.losses.cc import CC
from kdx.losses.crd import CRD
from kdx.losses.cross_entropy import CrossEntropy
from kdx.losses.cwd import CWD
from kdx.losses.dist import DIST
from kdx.losses.dkd import DKD
from kdx.losses.fsp import FSP
from kdx.losses.hint import Hint
from kdx.losses.kd import KD
from kdx.losses.mgd import MGD
from kdx.losses.nkd import NKD
from kdx.losses.nst import NST
from kdx.losses.ofd import OFD
from kdx.losses.pkt import PKT
from kdx.losses.regression import L1, MSE, SmoothL1
from kdx.losses.reviewkd import ReviewKD
from kdx.losses.rkd import RKD
from kdx.losses.sp import SP
from kdx.losses.srrl import SRRL
from kdx.losses.tf_kd import TfKD
from kdx.losses.vid import VID
from kdx.losses.wttm import TTM, WTTM
from kdx.losses.yolo import Yolo
from kdx.losses.yolo_kd import YoloKD
from kdx.protocols import Loss

__all__ = [
    "AT", "BCE", "BCEKD", "CC", "CRD", "CWD", "DIST", "DKD", "FSP", "KD", "L1", "MGD", "MSE", "NKD",
    "NST", "OFD", "PKT", "RKD", "SP", "SRRL", "TABLE", "TTM", "VID", "WITHOUT_TEACHER", "WTTM",
    "CrossEntropy", "Hint", "ReviewKD", "SmoothL1", "TfKD", "Yolo", "YoloKD",
]  # fmt: skip

TABLE: Mapping[str, Callable[..., Loss]] = {
    "cross_entropy": CrossEntropy,
    "kd": KD,
    "dkd": DKD,
    "dist": DIST,
    "nkd": NKD,
    "ttm": TTM,
    "wttm": WTTM,
    "tf_kd": TfKD,
    "hint": Hint,
    "pkt": PKT,
    "at": AT,
    "cc": CC,
    "crd": CRD,
    "cwd": CWD,
    "fsp": FSP,
    "mgd": MGD,
    "nst": NST,
    "ofd": OFD,
    "reviewkd": ReviewKD,
    "rkd": RKD,
    "sp": SP,
    "srrl": SRRL,
    "vid": VID,
    "yolo": Yolo,
    "yolo_kd": YoloKD,
    "bce": BCE,
    "bce_kd": BCEKD,
    "mse": MSE,
    "l1": L1,
    "smooth_l1": SmoothL1,
}

WITHOUT_TEACHER = frozenset({"cross_entropy", "tf_kd", "yolo", "bce", "mse", "l1", "smooth_l1"})
"""Losses of `TABLE` that can learn without a teacher; all others need one."""
