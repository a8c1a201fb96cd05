"""Reading features by module path, and finding out which ones the losses read."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdx.protocols import Outputs
from kdx.util.words import listed


class FeatureWanted(Exception):
    """A loss read a feature that is not tapped yet; the probe taps it and tries again."""

    def __init__(self, network: "Tapped", path: str) -> None:
        super().__init__(f"the {network.role}'s {path!r} is not tapped: call tap({path!r}) first")
        self.network, self.path = network, path
        self.place = ""


@dataclass(frozen=True)
class Watched(Outputs):
    """Outputs that note what is read of them, in `reads`; else as any other."""

    reads: list[str] = field(default_factory=list)

    def __getattribute__(self, name: str) -> Any:
        if name in ("logits", "features"):
            object.__getattribute__(self, "reads").append(name)
        return object.__getattribute__(self, name)


class Tapped:
    """A network whose call returns the outputs of chosen modules beside its logits.

        teacher = Tapped(resnet)
        teacher.tap("layer3")
        outputs = teacher(images)
        outputs.logits, outputs.features["layer3"]

    `role` is what error messages call the network. `known` are the module paths that may be
    tapped, by default all of the network's: kdx passes those of the compact network, so that a
    path means the same tensor before, during and after a student transform. `paths` are tapped.
    """

    def __init__(
        self, module: nn.Module, *, role: str = "network", known: Collection[str] | None = None
    ) -> None:
        self.module, self.role = module, role
        self.known = [name for name, _ in module.named_modules()] if known is None else known
        self.paths: tuple[str, ...] = ()
        self._kept: dict[str, Tensor] = {}
        self._clones: set[str] = set()
        self._handles: list[RemovableHandle] = []

    def tap(self, path: str) -> None:
        """Let calls return the output of the module at `path`, too.

        Raises ValueError for an unknown path; calls raise it if the output is not a tensor.
        """
        known = [name for name in self.known if name]
        if path not in known:
            near = " or ".join(map(repr, get_close_matches(path, known, n=3)))
            message = f"the {self.role} has no module {path!r}."
            hint = f" Did you mean {near}?" if near else ""
            raise ValueError(f"{message}{hint} Known: {listed(known)}")
        if path not in self.paths:
            self.paths += (path,)
        self.detach()
        self.attach()

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
        return self.module.get_submodule(path).register_forward_hook(hook)

    def __call__(self, images: Tensor) -> Outputs:
        """Run the network on images [B, C, H, W]; return logits and tapped features.

        The features keep their gradients; their shapes are those the modules return.
        """
        self._kept.clear()
        logits = self.module(images)
        kept, self._kept = self._kept, {}
        return Outputs(logits, _Features(self, kept))

    def _keeper(self, path: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if not isinstance(output, Tensor):
                raise ValueError(
                    f"the {self.role}'s module {path!r} returns a {type(output).__name__}, "
                    "not a tensor: choose a module inside it"
                )
            self._kept[path] = output.clone() if path in self._clones else output

        return keep

    def clone_overwritten(self, images: Tensor) -> None:
        """Find the taps that a later in-place operation overwrites, and keep copies of those.

        An in-place ReLU behind a tapped BatchNorm would otherwise change the feature. Runs the
        network once on images [B, C, H, W].
        """
        versions: dict[str, int] = {}

        def note(path: str) -> Any:
            return lambda _module, _inputs, output: versions.update({path: output._version})

        notes = [self._hook(path, note(path)) for path in self.paths]
        outputs = self(images)
        for handle in notes:
            handle.remove()
        self._clones |= {p for p in versions if outputs.features[p]._version != versions[p]}


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
