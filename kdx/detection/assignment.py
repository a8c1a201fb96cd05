"""Which cell and which anchor learns an object (YOLO9000, section 2).

B: batch, M: the most objects of an image, A: anchors, GH, GW: the grid's rows and columns.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from kdx.detection.grid import shape_iou


class Assignment(NamedTuple):
    """Where each object [B, M] belongs, and what is learned there.

    `slots` (int64) count through [A, GH, GW]. `real` marks objects, which rows of padding are not;
    `positive` those that their slot learns: not the difficult ones, and not those whose slot a
    later row of the same image has. `coordinates` [B, M, 4] are as of `grid.coordinates`.
    """

    slots: Tensor
    real: Tensor
    positive: Tensor
    coordinates: Tensor


def assign(target: Tensor, anchors: Tensor, *, grid: tuple[int, int]) -> Assignment:
    """Return the assignment of `target` [B, M, 6], rows (class, x, y, w, h, difficult).

    An object belongs to the cell that contains its centre, the last one if that is 1.0, and to the
    anchor with the best IoU if both share their centre, the first of equals. If two objects have
    one slot, the later row wins, as in darknet. A row with a negative class or without area is
    padding. `anchors` [A, 2] are in cells; `grid` is (GH, GW).
    """
    rows, columns = grid
    cells = target.new_tensor([columns, rows])
    kinds, centres, sizes = target[..., 0], target[..., 1:3] * cells, target[..., 3:5] * cells
    corners = centres.floor().clamp(min=torch.zeros_like(cells), max=cells - 1)
    fits = shape_iou(sizes.flatten(0, 1).clamp(min=0), anchors)
    best = fits.argmax(1).unflatten(0, target.shape[:2])
    column, row = corners.long().unbind(-1)
    slots = (best * rows + row) * columns + column
    real = (kinds >= 0) & (sizes > 0).all(-1)
    learned = real & (target[..., 5] <= 0)
    same = (slots[:, :, None] == slots[:, None, :]) & learned[:, None, :]
    followed = same.triu(diagonal=1).any(2)  # by a later row of the image that is learned
    ratios = (sizes / anchors[best]).clamp(min=torch.finfo(target.dtype).tiny)
    return Assignment(
        slots,
        real,
        learned & ~followed,
        torch.cat([centres - corners, ratios.log()], dim=-1),
    )
