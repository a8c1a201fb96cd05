"""Whether another order of the classes explains the predictions of a network. C: classes."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from kdx.models.class_names import Names
from kdx.protocols import IGNORED
from kdx.util.words import listed

MOST = 4096  # classes: more would need gigabytes
SURE = 3.0  # standard errors
HASH = 2654435761  # Knuth's multiplier
LIKELY = 0.75  # of the classes of a cycle


class SplitConfusion:
    """Counts of (class, prediction) in two halves of the images [2, C, C], a batch at a time.

    Takes logits [B, C, ...] and classes [B, ...], images or pixels; others leave it empty.
    """

    def __init__(self, classes: int) -> None:
        self.classes, self.images, side = classes, 0, classes if classes <= MOST else 0
        self.counts = torch.zeros(2, side, side, dtype=torch.int64)

    def __call__(self, outputs: Tensor, targets: Tensor, indices: Tensor) -> None:
        """Take the outputs for samples `indices` [B]; the halves follow no order of the data."""
        if not self.counts.numel() or not per_class(outputs, targets, self.classes):
            return
        self.counts, self.images = self.counts.to(outputs.device), self.images + len(indices)
        half = ((indices.to(outputs.device) * HASH >> 20) % 2).view(-1, *[1] * (targets.ndim - 1))
        cells = (half * self.classes + targets) * self.classes + outputs.max(1).indices
        cells = cells[targets != IGNORED]
        self.counts.view(-1).index_add_(0, cells, torch.ones_like(cells))


def per_class(outputs: Tensor, targets: Tensor, classes: int) -> bool:
    """Return whether outputs are logits [B, C, ...] of targets that are classes [B, ...]."""
    shape = outputs.shape
    return shape[1:2] == (classes,) and targets.shape == shape[:1] + shape[2:]


@dataclass(frozen=True)
class Order:
    """Another order of the classes: `outputs[i]` is the number of the output that says class i.

    `before` and `after` are the shares of the images of the `moved` classes that are right, by the
    order of one half of the images on the other half. `certain`: most of them are.
    """

    outputs: list[int]
    before: float
    after: float
    certain: bool

    @property
    def moved(self) -> list[int]:
        """The classes whose output is another one."""
        return [number for number, output in enumerate(self.outputs) if number != output]

    def explain(self, names: Names) -> str:
        """Return what it says, as a sentence."""
        pairs = listed(
            [f"{names[i]!r} is its output {self.outputs[i]}, not {i}" for i in self.moved]
        )
        raised = f"right instead of {self.before:.2%}"
        return (
            f"by its predictions, its classes are in another order than the data's: {pairs}. "
            f"Taken so, {self.after:.2%} of the images of these classes are {raised} (each half "
            "of the images judged by the order that the other half suggests)"
        )


def another_order(counts: Tensor, images: int) -> Order | None:
    """Return the order of classes that explains `counts` [2, C, C] of `images`, if there is one.

    A permutation is fitted to each half and judged on the other, so that luck does not count: it
    must be right more often than the identity by three standard errors, pixels of an image
    counting as one. Only cycles of classes whose commonest predictions it names, at least three in
    four, are taken: a weak network that says a few classes for all others has none.
    """
    if not images:
        return None
    halves = counts.double().cpu()
    halves = halves * (images / halves.sum().clamp(min=1))
    gained = kept = whole = 0.0
    for fitted, other in (halves, halves.flip(0)):
        outputs = _permutation(fitted)
        moved = (outputs != torch.arange(len(outputs))).nonzero()[:, 0]
        gained += float(other[moved, outputs[moved]].sum())
        kept += float(other[moved, moved].sum())
        whole += float(other[moved].sum())
    outputs = _permutation(halves.sum(0)).tolist()
    if gained - kept <= SURE * sqrt(gained + kept) or outputs == list(range(len(outputs))):
        return None
    share = gained / whole
    certain = share - 2 * sqrt(share * (1 - share) / whole) > 1 / 2
    return Order(outputs, kept / whole, share, certain)


def _permutation(matrix: Tensor) -> Tensor:
    """Return the output of each class [C] by a confusion matrix [C, C], truth by row."""
    from scipy.optimize import linear_sum_assignment  # here: it takes long to import

    rows = matrix / matrix.sum(1, keepdim=True).clamp(min=1e-12)
    settled = rows + 1e-9 * torch.eye(len(rows))  # where nothing is known, all stays
    outputs = torch.from_numpy(linear_sum_assignment(settled.numpy(), maximize=True)[1])
    chosen = rows.gather(1, outputs[:, None])[:, 0]
    common = (chosen == rows.max(1).values) & (chosen > 0)
    result = torch.arange(len(outputs))
    for cycle in _cycles(outputs.tolist()):
        if common[cycle].double().mean() >= LIKELY:
            result[cycle] = outputs[cycle]
    return result


def _cycles(outputs: list[int]) -> list[list[int]]:
    cycles, left = [], set(range(len(outputs)))
    while left:
        cycle = [left.pop()]
        while outputs[cycle[-1]] in left:
            cycle.append(outputs[cycle[-1]])
            left.remove(cycle[-1])
        cycles.append(cycle)
    return cycles
