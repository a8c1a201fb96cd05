"""Softmax regression representation learning (Yang et al. 2021). B: batch, C: classes, D: width."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdx.losses.align import as_map
from kdx.losses.pairs import read_pairs
from kdx.losses.shared import checked_scales, full_precision, need_teacher
from kdx.protocols import Outputs
from kdx.util.errors import reason
from kdx.util.words import listed

__all__ = ["SRRL"]

APART = 0.05  # of the logits' norm: what half precision and a stored memo may round


class SRRL(nn.Module):
    """alpha times the distance of the last features, and beta times that of what is made of them.

    The student's feature is mapped to the teacher's width by a learned linear map and BatchNorm.
    The first term is its mean squared distance from the teacher's feature, over all elements; the
    second is that of the logits when the teacher's classifier reads it, from the teacher's logits,
    over all elements, too. Maps are averaged over their places, as before a classifier. BatchNorm
    needs two samples or more.

    `head` is the module path of the classifier, by default the teacher's last linear layer of
    `num_classes` outputs. It is used as it is, frozen, and is no part of the loss. Of a teacher's
    layer that is named it must make the teacher's logits, to a twentieth of their norm: otherwise
    the two terms could not both be 0 (with alpha 0 any layer will do). `alpha` and `beta` are
    finite and at least 0. ValueError otherwise, and for a head that is not found.
    """

    def __init__(
        self,
        *,
        student_layer: str = "@pooled",
        teacher_layer: str = "@pooled",
        head: str | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        teacher_network: nn.Module | None = None,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.pairs = [(student_layer, teacher_layer)]
        self.scales = checked_scales(alpha=alpha, beta=beta)
        self.regressor = nn.Sequential()
        # In a tuple, it is no submodule: neither trained nor saved. The teacher moves it.
        self.heads: Sequence[nn.Module] = (
            () if teacher_network is None else (_head(teacher_network, head, num_classes),)
        )

    def forward(self, student: Outputs, teacher: Outputs | None, target: Tensor) -> Tensor:
        """Return the scalar; `target` is not read.

        ValueError without a teacher, and for features or logits that do not fit its classifier.
        """
        logits = need_teacher(teacher, "srrl").logits.detach()
        if not self.heads:
            raise ValueError("srrl needs the network of one teacher: pass `teacher_network`")
        ((student_map, teacher_map),) = read_pairs("srrl", self.pairs, student, teacher)
        if not len(self.regressor):
            pooled = _pooled(student_map, teacher_map)
            widths = [each.shape[1] for each in pooled]
            self._check_head(pooled[1], logits)
            layers = nn.Linear(*widths, bias=False), nn.BatchNorm1d(widths[1])
            dtype = torch.promote_types(student_map.dtype, torch.float32)
            self.regressor.extend(layers).to(student_map.device, dtype)
        return self._distance(student_map, teacher_map, logits)

    @full_precision
    def _distance(self, student: Tensor, teacher: Tensor, logits: Tensor) -> Tensor:
        student, teacher = _pooled(student, teacher)
        mapped = self.regressor(student)
        regression = F.mse_loss(self._classified(mapped).to(logits.dtype), logits)
        return self.scales["alpha"] * F.mse_loss(mapped, teacher) + self.scales["beta"] * regression

    def _classified(self, feature: Tensor) -> Tensor:
        dtype = next((weight.dtype for weight in self.heads[0].parameters()), feature.dtype)
        return self.heads[0](feature.to(dtype))

    @torch.no_grad()
    @full_precision
    def _check_head(self, feature: Tensor, logits: Tensor) -> None:
        """Raise ValueError unless the head makes the teacher's logits of its feature [B, D]."""
        head, (path, wide) = self.heads[0], (self.pairs[0][1], feature.shape[1])
        if isinstance(head, nn.Linear) and head.in_features != wide:
            reads = f"the teacher's classifier reads {head.in_features} numbers"
            raise ValueError(f"srrl: {reads}, {path!r} has {wide}: name the layer that it reads")
        try:
            again = self._classified(feature)
        except RuntimeError as error:
            takes = f"the head takes no {list(feature.shape)}: {reason(error)}"
            raise ValueError(f"srrl: {takes}: name the classifier by `head`") from error
        if again.shape != logits.shape:
            shapes = f"{list(again.shape)}, the teacher's logits are {list(logits.shape)}"
            raise ValueError(f"srrl: the head's output is {shapes}: name the classifier by `head`")
        apart, size = (float(each.norm()) for each in (again.to(logits.dtype) - logits, logits))
        if path != "@pooled" and self.scales["alpha"] and apart > APART * size:
            differ = f"of {path!r} the head makes other logits than the teacher's"
            remedy = "name the layer that it reads, '@pooled', or set alpha: 0"
            raise ValueError(f"srrl: {differ}: {remedy}")


def _pooled(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as vectors: the means of their maps."""
    s, t = as_map(student, like=teacher), as_map(teacher, like=student)
    return s.mean((2, 3)), t.mean((2, 3))


def _head(network: nn.Module, path: str | None, classes: int | None) -> nn.Module:
    modules = dict(network.named_modules())
    linear = [name for name, each in modules.items() if isinstance(each, nn.Linear)]
    known = f"Its linear layers: {listed(linear) or 'none'}"
    if path is None:
        fitting = [n for n in linear if classes in (None, network.get_submodule(n).out_features)]
        if not fitting:
            of = "" if classes is None else f" of {classes} outputs"
            raise ValueError(f"head: the teacher has no linear layer{of}: name a module. {known}")
        return modules[fitting[-1]]
    if path not in modules:
        raise ValueError(f"head: the teacher has no module {path!r}. {known}")
    return modules[path]
