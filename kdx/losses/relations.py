"""Relations between the samples of a batch. B: batch, D: feature size."""

import torch
from torch import Tensor, distributed

SILENT = 1e-12  # a row whose largest magnitude is below this counts as zero


def unit_rows(rows: Tensor) -> Tensor:
    """Scale each row [..., D] to length 1; rows of zeros stay, with a finite gradient."""
    # The direction does not see this scale, a constant to the gradient that keeps squares finite.
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)
    rows = rows / torch.where(largest > SILENT, largest, 1.0)
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=1)


def scaled(values: Tensor, dims: tuple[int, ...] = ()) -> Tensor:
    """Divide by the largest magnitude, if it is not 0: for losses that do not depend on the scale.

    Their squares and products then stay finite. It is that of all values, or over `dims`.
    """
    largest = values.detach().abs().amax(dims, keepdim=True)
    return values / torch.where(largest > 0, largest, 1.0)


def gathered(features: Tensor) -> Tensor:
    """Return the features [B, ...] of all processes, in the order of their ranks, as rows [all, D].

    The gradient is that of the own rows, times all / B: a process's loss counts by its share of the
    batch, and so the sum over the processes is the gradient that one process would have.
    """
    rows = features.flatten(1)
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    kept = of_all(rows)
    own = rows * (sum(map(len, kept)) / len(rows))
    kept[distributed.get_rank()] = rows.detach() + (own - own.detach())
    return torch.cat(kept)


def of_all(rows: Tensor) -> list[Tensor]:
    """Return the rows [B, D] of each process, by rank, without gradient."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [rows.detach()]
    world = distributed.get_world_size()
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world)]
    distributed.all_gather(counts, counts[0].new_tensor([len(rows)]))
    most = int(max(counts))
    padded = rows.new_zeros(most, rows.shape[1])
    padded[: len(rows)] = rows.detach()
    parts = [torch.empty_like(padded) for _ in counts]
    distributed.all_gather(parts, padded)
    return [part[: int(count)] for part, count in zip(parts, counts, strict=True)]
