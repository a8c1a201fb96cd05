"""Labels that are drawn at random: how much a network memorises shows when some of them are wrong.

As in Zhang et al. (ICLR 2017, "Understanding deep learning requires rethinking generalization"), by
any of all C classes, its own too: a share of 1 - 1/C of the labels that are drawn are wrong.
"""

import torch
from torch import Tensor

from kdx.data.counter import Draw, integers, uniform
from kdx.protocols import ImageSource, Labelled
from kdx.util.words import counted


def corrupt_labels(
    source: ImageSource, numbers: Tensor, *, share: float, classes: int, seed: int
) -> tuple[ImageSource, str]:
    """Return the source with a share of its labels drawn at random, and a note on how many.

    A sample's draw depends only on the seed and its `numbers` [N] in the whole training set; a
    larger share draws for more samples. ValueError for images that have no one label each.
    """
    if not isinstance(source, Labelled):
        missing = f"one label for each image, which {type(source).__name__} does not have"
        raise ValueError(f"data.label_noise: {share:g} needs {missing}: leave it out")
    places = numbers.numpy()
    drawn = torch.from_numpy(uniform(seed, 0, places, Draw.NOISE) < share)
    random = torch.from_numpy(integers(seed, 0, places, Draw.NOISE_LABEL, classes))
    labels = torch.where(drawn, random, source.labels)
    wrong = int((labels != source.labels).sum())
    count = f"labels of {int(drawn.sum()):,} of {counted(len(labels), 'training image')}"
    note = f"{count} were drawn at random (label_noise {share:g}): {wrong:,} of them are wrong now"
    return source.relabelled(labels), note
