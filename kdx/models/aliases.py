"""Names for layers that every network has: "@stem", "@stage1" ... "@stage4", "@pooled"."""

from collections.abc import Collection
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from kdx.data.counter import generators_kept
from kdx.models.layouts import find_layouts
from kdx.models.modes import eval_mode

STAGES = 4


@torch.no_grad()
def find_aliases(module: nn.Module, images: Tensor, known: Collection[str]) -> dict[str, str]:
    """Return the module paths, of those `known`, that the aliases stand for, by alias.

    Found by running the network on images [B, C, H, W] in eval mode. "@stage1" is the end of the
    first resolution, which is that of its largest part, and so on; of more than four, the last four
    are the stages, and "@stem" is that of the one before them; else "@stem" is the first map.
    "@pooled" is what the last linear layer reads, [B, D]. Pooled maps of 1 x 1 and modules that run
    several times do not count; an alias without a module is left out.
    """
    with eval_mode(module), generators_kept():
        outputs, pooled = _outputs(module, images, known)
        shapes = {path: tuple(value.shape) for path, value in outputs.items()}

        others: list[dict[str, tuple[int, ...]]] = []

        def run(probe: Tensor) -> dict[str, tuple[int, ...]]:
            found, _ = _outputs(module, probe, known, fails=(Exception,))
            others.append({path: tuple(value.shape) for path, value in found.items()})
            return others[-1]

        layouts = find_layouts(shapes, images, run, widths={path: set() for path in shapes})
    maps: dict[str, tuple[int, int]] = {}
    for path, shape in shapes.items():
        if (layout := layouts[path]) and len(shape) == 4:
            size = shape[layout.index("h")], shape[layout.index("w")]
            grows = any(each.get(path, shape)[1:] != shape[1:] for each in others)
            if max(size) > 1 or grows:
                maps[path] = size
    stages = [
        _end([path for path, each in maps.items() if each == size], module)
        for size in dict.fromkeys(maps.values())
    ]
    aliases = {f"@stage{n + 1}": path for n, path in enumerate(stages[-STAGES:])}
    if stages:
        aliases["@stem"] = stages[-STAGES - 1] if len(stages) > STAGES else next(iter(maps))
    return aliases | ({"@pooled": pooled} if pooled else {})


def _end(paths: list[str], module: nn.Module) -> str:
    """Return the end of a stage: of its largest part, or what follows that as far outside."""
    weights = [sum(p.numel() for p in module.get_submodule(path).parameters()) for path in paths]
    largest = max(range(len(paths)), key=lambda index: (weights[index], index))
    depth = paths[largest].count(".")
    return [path for path in paths[largest:] if path.count(".") <= depth][-1]


def _outputs(
    module: nn.Module,
    images: Tensor,
    known: Collection[str],
    *,
    fails: tuple[type[Exception], ...] = (),
) -> tuple[dict[str, Tensor], str]:
    """Return the outputs of the modules that run once, in their order, and the path of "@pooled".

    That is the module whose output has the memory of what the last linear layer reads. If the
    network `fails`, as one that takes images of one size does, what ran before counts.
    """
    outputs: dict[str, Tensor] = {}
    several: set[str] = set()
    read: list[Tensor] = []

    def keep(path: str) -> Any:
        def hook(_: nn.Module, inputs: Any, output: Any) -> None:
            several.update({path} & outputs.keys())
            if isinstance(output, Tensor):
                outputs[path] = output

        return hook

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        read[:] = [each for each in inputs[:1] if isinstance(each, Tensor)]

    handles = []
    for path, each in module.named_modules():
        if path and path in known:
            handles.append(each.register_forward_hook(keep(path)))
            if isinstance(each, nn.Linear):
                handles.append(each.register_forward_pre_hook(note))
    try:
        with suppress(*fails):
            module(images)
    finally:
        for handle in handles:
            handle.remove()
    once = {path: value for path, value in outputs.items() if path not in several}
    same = [
        path
        for path, value in once.items()
        if read and value.data_ptr() == read[0].data_ptr() and value.numel() == read[0].numel()
    ]
    # The output of a dropout is another one in training: it is the last choice.
    same.sort(key=lambda path: not isinstance(module.get_submodule(path), _DropoutNd))
    return once, same[-1] if same else ""
