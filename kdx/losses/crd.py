"""Contrastive representation distillation (Tian et al. 2020).

B: batch, K: negatives, N: training images, D: width of the embeddings.
"""

from math import inf, log

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.losses.pairs import read_pairs
from kdx.losses.relations import of_all, unit_rows
from kdx.losses.shared import full_precision
from kdx.protocols import Outputs
from kdx.util.words import in_bytes

__all__ = ["CRD"]

LIMIT = 8 * 10**9  # bytes of the two banks


class CRD(nn.Module):
    """Tell a sample's embedding from those of others, by the other network's.

    Features, flattened, are embedded by a learned linear map each and scaled to length 1. Two banks
    [N, D] have the newest embeddings of every training image. For each sample, its own row of the
    other network's bank and those of K others are told apart by noise-contrastive estimation at
    `temperature` (section 3.2, as in the authors' code): with P = exp(similarity / T) / Z,
    -log(P / (P + K / N)) for its own and -log((K / N) / (P + K / N)) for each other, summed, mean
    over the batch, for both networks. Z, one for each, is set by the first batch: N times the mean
    of the exponentials. Rows move to momentum * row + (1 - momentum) * embedding, of length 1.

    A mixed image counts as the sample that was mixed, not as its partner, whatever the shares.

    The negatives depend on the run's seed, the epoch and the sample alone: they are K offsets from
    it in the order of the images, drawn each epoch without repetition, the same for all samples. Of
    `negatives`, at most N - 1 are used. The banks hold 2 N D numbers, at most 8 GB, and are in the
    checkpoints; a step copies them, and takes some 4 B N more. They are the same on all processes.
    When gradients are accumulated, every part moves them, and the first sets Z. Of a sample that is
    in a batch twice, the later view moves its row.

    ValueError for numbers out of range. The authors' weight is 0.8 beside cross-entropy.
    """

    shared = ("student_bank", "teacher_bank", "log_z")
    student_bank: Tensor
    teacher_bank: Tensor
    log_z: Tensor

    def __init__(
        self,
        *,
        train_images: int,
        run_seed: int = 0,
        student_layer: str = "@pooled",
        teacher_layer: str = "@pooled",
        dim: int = 128,
        negatives: int = 16384,
        temperature: float = 0.07,
        momentum: float = 0.5,
    ) -> None:
        super().__init__()
        _check(train_images, dim, negatives, temperature, momentum)
        self.pairs = [(student_layer, teacher_layer)]
        self.images, self.seed = train_images, run_seed
        self.dim, self.temperature, self.momentum = dim, temperature, momentum
        self.negatives = min(negatives, train_images - 1)
        self.embeddings = nn.ModuleList()
        generator, side = torch.Generator().manual_seed(run_seed), (3 / dim) ** 0.5
        for name in self.shared[:2]:  # as the authors start them, of length 1 on average
            bank = torch.rand(train_images, dim, generator=generator).mul_(2 * side).sub_(side)
            self.register_buffer(name, bank)
        self.register_buffer("log_z", torch.full((2,), torch.nan))  # until the first batch
        self._offsets: dict[tuple[int, torch.device], Tensor] = {}  # those of the epoch

    def forward(
        self,
        student: Outputs,
        teacher: Outputs | None,
        target: Tensor,
        indices: Tensor | None = None,
        epoch: int = 0,
    ) -> Tensor:
        """Return the scalar, and move the banks; `indices` [B] are the samples', in 0..N-1.

        `target` is not read. ValueError without a teacher or indices.
        """
        if indices is None:
            raise ValueError("crd needs the samples' indices")
        (features,) = read_pairs("crd", self.pairs, student, teacher)
        if not len(self.embeddings):
            if (last := int(indices.max())) >= self.images:
                raise ValueError(
                    f"crd: train_images: {self.images}, but sample {last} is trained on"
                )
            for each in features:
                layer, dtype = nn.Linear(each[0].numel(), self.dim), each.dtype
                layer.to(each.device, torch.promote_types(dtype, torch.float32))
                self.embeddings.append(layer)
        return self._contrast(*features, indices, epoch)

    @full_precision
    def _contrast(self, student: Tensor, teacher: Tensor, indices: Tensor, epoch: int) -> Tensor:
        features, banks = (student, teacher), (self.student_bank, self.teacher_bank)
        rows = [
            unit_rows(embed(each.flatten(1)))
            for embed, each in zip(self.embeddings, features, strict=True)
        ]
        chosen = (indices[:, None] + self._steps(epoch, indices.device)) % self.images
        # All similarities, and of them the chosen: 16 times as fast for 50,000 images as gathering
        # K + 1 rows of the bank for each sample. A copy of the bank, since it moves.
        scores = [
            (row @ bank.to(row, copy=True).T).gather(1, chosen) / self.temperature
            for row, bank in zip(rows, banks[::-1], strict=True)
        ]
        self._move(rows, scores, indices)
        # P / (P + K / N) is the sigmoid of log P - log(K / N).
        odds = [
            each - z - log(self.negatives / self.images)
            for each, z in zip(scores, self.log_z.to(student), strict=True)
        ]
        values = [F.logsigmoid(each[:, 0]) + F.logsigmoid(-each[:, 1:]).sum(1) for each in odds]
        return -torch.stack(values).sum(0).mean()

    @torch.no_grad()
    def _move(self, rows: list[Tensor], scores: list[Tensor], indices: Tensor) -> None:
        """Set Z if it is not, and move the banks, by the batch of all processes."""
        sums = torch.stack([each.logsumexp(1) for each in scores], 1)  # [B, 2]
        everything = torch.cat(of_all(torch.cat([*rows, sums], 1)))
        who = torch.cat(of_all(indices[:, None]))[:, 0]
        *embedded, sums = everything.split([self.dim, self.dim, 2], 1)
        mean = sums.logsumexp(0) - log(len(who) * (self.negatives + 1))
        first = (mean + log(self.images)).to(self.log_z)
        self.log_z.copy_(torch.where(self.log_z.isnan(), first, self.log_z))
        # A sample may be there twice, and which of two writes to a row is the last is open.
        places = torch.arange(len(who), device=who.device)
        last = places.new_zeros(self.images).scatter_reduce(0, who, places, "amax")[who]
        for bank, row in zip((self.student_bank, self.teacher_bank), embedded, strict=True):
            moved = self.momentum * bank[who].to(row) + (1 - self.momentum) * row
            bank[who] = unit_rows(moved)[last].to(bank)

    def _steps(self, epoch: int, device: torch.device) -> Tensor:
        """Return how far a sample's own row, 0, and its negatives are behind it, [1 + K]."""
        if (epoch, device) not in self._offsets:
            drawn = np.random.default_rng((self.seed, epoch)).permutation(self.images - 1)
            steps = np.concatenate([[0], 1 + drawn[: self.negatives]])
            self._offsets = {(epoch, device): torch.from_numpy(steps).to(device)}
        return self._offsets[epoch, device]


def _check(images: int, dim: int, negatives: int, temperature: float, momentum: float) -> None:
    counts = {"train_images": (images, 2), "dim": (dim, 1), "negatives": (negatives, 1)}
    for name, (value, least) in counts.items():
        if value < least:
            raise ValueError(f"{name}: {value} is not at least {least}")
    if not 0 < temperature < inf:
        raise ValueError(f"temperature: {temperature} is not a finite number above 0")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum: {momentum} is not in [0, 1)")
    if (size := 2 * 4 * images * dim) > LIMIT:
        banks = f"two banks of {images:,} x {dim:,} numbers take {in_bytes(size)}"
        raise ValueError(f"dim: {banks}, more than {in_bytes(LIMIT)}: lower `dim`")
