"""Quantisation-aware training: a student that computes as it will in int8, while it trains.

    qat = quantize.QAT()
    student = qat.apply(network)  # then train it; in eval mode, too, it computes as in int8
    network = qat.restore(student)  # in float again, with the weights that int8 suits

Needs torch and expand.
"""

from quantize.fake import fake_input, fake_weight
from quantize.layers import QuantisedLayer, layers
from quantize.transform import QAT

__all__ = [
    "QAT",
    "QuantisedLayer",
    "fake_input",
    "fake_weight",
    "layers",
]
