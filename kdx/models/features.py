"""Reading features by module path, and finding out which ones the losses read."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdx.data.counter import generators_kept
from kdx.models.aliases import find_aliases
from kdx.models.layouts import Shapes, find_layouts, order
from kdx.models.modes import eval_mode
from kdx.models.places import Place, place_of, unclear
from kdx.protocols import Outputs
from kdx.util.words import counted, listed


class FeatureWanted(Exception):
    """A loss read a feature that is not tapped yet; the probe taps it and tries again."""

    def __init__(self, network: "Tapped", path: str) -> None:
        super().__init__(f"the {network.role}'s {path!r} is not tapped: call tap({path!r}) first")
        self.network, self.path = network, path
        self.place = ""


class Tapped:
    """A network whose call returns the outputs of chosen modules beside its logits.

        teacher = Tapped(resnet)
        teacher.tap("layer3")
        outputs = teacher(images)
        outputs.logits, outputs.features["layer3"]

    `role` is what error messages call the network. `compact` is the network whose module paths may
    be tapped, and whose layers the aliases name, by default this one: a path or an alias means the
    same tensor before, during and after a student transform. `paths` are tapped.

    Features are maps [B, C, H, W], tokens [B, N, C] or vectors [B, C], whatever the layout of the
    module's output: the first call with a new tap runs the network on images of other sizes, too,
    to see which axis is which. Then `layouts` has it by path. The taps are forward hooks, which
    copies of the network would have, too: `detach` before it is copied, compressed or saved.
    """

    def __init__(
        self, module: nn.Module, *, role: str = "network", compact: nn.Module | None = None
    ) -> None:
        self.module, self.role = module, role
        self.compact = module if compact is None else compact
        self.known = [name for name, _ in self.compact.named_modules()]
        self.layouts: dict[str, str] = {}
        self._sizes: dict[str, list[int]] = {}
        self._places: dict[str, Place] = {}
        self._calls: dict[str, int] = {}
        self._kept: dict[str, Tensor] = {}
        self._clones: set[str] = set()
        self._handles: list[RemovableHandle] = []
        self._wanted: set[str] = set()  # aliases, until the next call

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths that are tapped."""
        return tuple(self._places)

    def tap(self, path: str) -> None:
        """Let calls return the output of the module at `path`, too.

        `path` may end in the number of the call of a module that runs several times ("relu:0"),
        and in the layout of its output ("layers.0:bhwc"); it may be an alias, "@stage4" (see
        `kdx.models.aliases`). Raises ValueError for an unknown path;
        calls raise it if the output is not a tensor, or if call or layout are unclear.
        """
        if path.startswith("@"):  # it takes images to find out
            self._wanted.add(path)
            return
        self._places.setdefault(path, place_of(path, self.known, self.role))
        self.detach()
        self.attach()

    def _find_aliases(self, images: Tensor) -> None:
        self.detach()
        found = find_aliases(self.compact, images, self.known)
        for path in self._wanted:
            if path not in found:
                known = ", ".join(sorted(found)) or "none"
                raise ValueError(f"the {self.role} has no {path}: name a module. Known: {known}")
            self._places[path] = Place(found[path])
        self._wanted = set()
        self.attach()

    def described(self) -> str:
        """Return a line on the features: "layers.3 [B, 768, 7, 7] (from bhwc), head [B, 10]"."""
        return listed([self._described(path) for path in self.paths])

    def _described(self, path: str) -> str:
        layout = self.layouts[path]
        moved = "" if order(layout) == sorted(order(layout)) else f" (from {layout})"
        alias = f"{path} = {self._places[path].module}" if path.startswith("@") else path
        return f"{alias} [{', '.join(['B', *map(str, self._sizes[path])])}]{moved}"

    def move_to(self, module: nn.Module) -> None:
        """Tap another copy of the network from now on; the taps are off until `attach`."""
        self.detach()
        self.module = module

    def attach(self) -> None:
        """Register the forward hooks again, after `detach` or `move_to`."""
        if not self._handles:
            self._handles = [self._hook(path, self._keeper(path)) for path in self.paths]

    def detach(self) -> None:
        """Remove the forward hooks; `attach` registers them again."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hook(self, path: str, hook: Any) -> RemovableHandle:
        return self.module.get_submodule(self._places[path].module).register_forward_hook(hook)

    def __call__(self, images: Tensor, *, float32: bool = False) -> Outputs:
        """Run the network on images [B, C, H, W]; return logits and tapped features.

        The features keep their gradients. With `float32`, half precision is converted.
        """
        if self._wanted:
            self._find_aliases(images)
        logits = self._run(images)
        kept, self._kept = self._kept, {}
        self._check_calls()
        new = {path: tuple(v.shape) for path, v in kept.items() if path not in self.layouts}
        if new:
            self._find_layouts(new, images)
        features = {path: self._read(path, value) for path, value in kept.items()}
        if float32:
            logits, features = logits.float(), {p: value.float() for p, value in features.items()}
        return Outputs(logits, _Features(self, features))

    def _run(self, images: Tensor) -> Any:
        self._kept, self._calls = {}, {}
        return self.module(images)

    def _read(self, path: str, value: Tensor) -> Tensor:
        """Return a feature with its axes in the order in which losses read them."""
        axes = order(self.layouts[path])
        return value if axes == sorted(axes) else value.permute(axes)

    def _keeper(self, path: str) -> Any:
        wanted = self._places[path].call or 0

        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"the {self.role}'s module {path!r} returns a {type(output).__name__}, "
                    "not a tensor: choose a module inside it"
                )
            call = self._calls.get(path, 0)
            self._calls[path] = call + 1
            if call == wanted:
                self._kept[path] = output.clone() if path in self._clones else output

        return keep

    def _check_calls(self) -> None:
        """Raise ValueError if a module ran several times, or too rarely for the call named."""
        for path, count in self._calls.items():
            place = self._places[path]
            if count > 1 if place.call is None else count <= place.call:
                calls = listed([repr(f"{place.module}:{call}") for call in range(count)])
                times = f"runs {counted(count, 'time')} in a forward pass"
                message = f"{path!r}: the {self.role}'s module {place.module!r} {times}"
                raise ValueError(f"{message}: name one of its calls: {calls}")

    @torch.no_grad()
    def _find_layouts(self, shapes: Shapes, images: Tensor) -> None:
        """Find the layouts of features by their shapes for images; ValueError if one is unclear."""

        def run(others: Tensor) -> Shapes:
            with suppress(Exception):  # a network may take images of one size only
                self._run(others)
            return {path: tuple(value.shape) for path, value in self._kept.items()}

        named = {path: self._places[path].layout for path in shapes}
        modules = {path: self.module.get_submodule(self._places[path].module) for path in shapes}
        widths = {
            path: {len(p) for p in m.parameters() if p.ndim == 1} for path, m in modules.items()
        }
        with eval_mode(self.module), generators_kept():
            known = all(named.values())
            found = {} if known else find_layouts(shapes, images, run, widths=widths)
        self._kept = {}
        for path, shape in shapes.items():
            layout = named[path] or found.get(path)
            fits = layout is not None and len(layout) == len(shape)
            if layout is None or not fits or shape[layout.index("b")] != len(images):
                raise ValueError(unclear(path, shape, images, role=self.role, named=named[path]))
            self.layouts[path] = layout
            self._sizes[path] = [shape[axis] for axis in order(layout)[1:]]

    def clone_overwritten(self, images: Tensor) -> None:
        """Find the taps that a later in-place operation overwrites, and keep copies of those.

        An in-place ReLU behind a tapped BatchNorm would otherwise change the feature. Runs the
        network once on images [B, C, H, W].
        """
        versions: dict[str, list[int]] = {path: [] for path in self.paths}

        def note(path: str) -> Any:
            return lambda _module, _inputs, output: versions[path].append(output._version)

        notes = [self._hook(path, note(path)) for path in self.paths]
        features = self(images).features
        for handle in notes:
            handle.remove()
        for path, feature in features.items():
            if feature._version != versions[path][self._places[path].call or 0]:
                self._clones.add(path)


class _Features(Mapping[str, Tensor]):
    """The tapped features; reading another one asks the probe for it."""

    def __init__(self, network: Tapped, kept: dict[str, Tensor]) -> None:
        self._network, self._kept = network, kept

    def __getitem__(self, path: str) -> Tensor:
        if path not in self._kept:
            raise FeatureWanted(self._network, path)
        return self._kept[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)
