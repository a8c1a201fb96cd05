"""What `use:` may name: an entry of the package's own tables, or a public name of a module.

A recipe is data, and must not be able to run whatever can be imported. A dotted name resolves
only into kdx, expand, teachers, the plug-ins allowed on the command line, and those declared by
installed packages under the entry-point group `kdx.plugins`; there, only to a name in the
module's `__all__`; and only to an object that meets the contract of its kind, which a function
shows by what it is annotated to return. In plug-ins, which were allowed by name, it need not.
"""

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from kdx.recipe.wording import show, unknown

TABLES = {
    "network": "kdx.models.students",
    "dataset": "kdx.data.sets",
    "augmentation": "torchvision.transforms.v2",
    "loss": "kdx.losses",
    "transform": None,
    "optimizer": "torch.optim",
    "schedule": "kdx.training.schedules",
    "tracker": "kdx.training.trackers",
}
"""The kinds of components, each with the module that holds its bare names, if there are any."""

_MOVED = {
    "kdx.students.imagenet": "kdx.models.students.zoo",
    "kdx.students": "kdx.models.students",
    "kdx.schedules": "kdx.training.schedules",
}
"""Modules that recipes of kdx 0.1 name, and where they are now."""

_NESTED = {"RandomApply", "RandomChoice", "RandomOrder"}
_OTHERS = {
    "AugMix", "AutoAugment", "CenterCrop", "ColorJitter", "ElasticTransform", "GaussianBlur",
    "GaussianNoise", "Grayscale", "Pad", "RandAugment", "Resize", "ScaleJitter",
    "TrivialAugmentWide",
}  # fmt: skip
"""Of torchvision's augmentations: those of transforms, and those not called Random."""

HOUSE = frozenset({"kdx", "expand", "quantize", "teachers"})
PACKAGES = {"network": ("teachers",), "transform": ("expand", "quantize")}
"""The packages beside kdx that have components of a kind."""

_GROUP = "kdx.plugins"
_LONGEST = 200


def allowed_modules(plugins: Iterable[str] = ()) -> frozenset[str]:
    """Return the modules that dotted names may resolve into; so may their submodules."""
    declared = (point.value.partition(":")[0].strip() for point in entry_points(group=_GROUP))
    return HOUSE | {*plugins, *declared}


def allow(plugins: Sequence[str]) -> None:
    """Make plug-ins in the current directory importable, last in the search order.

    ValueError for what is not the name of a module there is; nothing is imported.
    """
    if isinstance(plugins, str):
        raise ValueError(f"plugins: {plugins!r} is a string: pass a list, [{plugins!r}]")
    if plugins and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
        importlib.invalidate_caches()
    for name in plugins:
        root = name.partition(".")[0]
        if name.endswith(".py") or not root or importlib.util.find_spec(root) is None:
            raise ValueError(
                f"--plugin {name}: no such module: give the name of a module, as my_pkg, that is "
                "installed, in the current directory or on PYTHONPATH; for several repeat --plugin"
            )


def resolve(use: str, kind: str, allowed: Iterable[str]) -> Any:
    """Return the factory that `use` names; nothing is imported from outside `allowed`.

    Raises ValueError with what is wrong, for the user.
    """
    from kdx.recipe.kinds import lack  # here, because it brings torch

    if use.startswith("object:"):
        message = f"{show(use)} is a Python object, which a recipe cannot build"
        raise ValueError(f"{message}: run the Python program that called kdx.distill() again")
    not_one = f"{show(use)} is not {'an' if kind[0] in 'ao' else 'a'} {kind}"
    package, dot, _ = use.partition(".")
    is_timm = kind == "optimizer" and package == "timm" and bool(dot)
    if dot and not is_timm:
        factory = _dotted(use, kind, allowed)
    elif (factory := (known := timm_optimizers() if is_timm else table(kind)).get(use)) is None:
        raise ValueError(f"{not_one}.{unknown(use, [*known, *_house_names(kind)])}")
    if reason := lack(factory, kind, annotated=bool(dot) and package in HOUSE):
        raise ValueError(f"{not_one}: {reason}")
    return factory


def table(kind: str) -> Mapping[str, Any]:
    """Return the factories of a kind by their bare names; empty for transforms."""
    module = TABLES[kind]
    if kind == "augmentation":
        found = vars(_import("torchvision.transforms.v2"))
        random = {name for name in found if name.startswith("Random")} - _NESTED
        return {name: found[name] for name in sorted((random | _OTHERS) & found.keys())}
    if module is None or kind != "optimizer":
        return _import(module, "TABLE") if module else {}
    from torch import optim

    # LBFGS calls the loss itself, several times a step; SparseAdam wants sparse gradients.
    unfit = (optim.Optimizer, optim.LBFGS, optim.SparseAdam)
    classes = {name: value for name, value in vars(optim).items() if isinstance(value, type)}
    return {n: c for n, c in classes.items() if issubclass(c, optim.Optimizer) and c not in unfit}


def timm_optimizers() -> dict[str, Any]:
    """Return timm's optimizers by name ("timm.lamb"), with timm's defaults.

    Momentum is 0.9, as in timm's `create_optimizer_v2`, if the class has none by default.
    Without those that need second derivatives, other packages, or random numbers that they do not
    put into their state, so that a resume would go other steps (Kron).
    """
    timm, found = _import("timm.optim"), {}
    for name in timm.list_optimizers():
        info = timm.get_optimizer_info(name)
        made = info.opt_class
        if isinstance(made, type) and not info.second_order and made.__name__ != "Kron":
            factory = timm.get_optimizer_class(name)
            momentum = inspect.signature(made).parameters.get("momentum")
            none = momentum is not None and momentum.default == 0
            found[f"timm.{name}"] = partial(factory, momentum=0.9) if none else factory
    return found


def _dotted(use: str, kind: str, allowed: Iterable[str]) -> Any:
    parts = use.split(".")
    if len(use) > _LONGEST or not all(part.isidentifier() for part in parts):
        raise ValueError(f"{show(use)} is not a dotted name such as expand.ExpandNet")
    if special := [part for part in parts if part.startswith("__")]:
        raise ValueError(f"{show(use)}: {special[0]!r} is Python's own, not a public name")
    for old, new in _MOVED.items():
        if use.startswith(f"{old}."):
            use = new + use.removeprefix(old)
    module, _, name = use.rpartition(".")
    if not any(f"{module}.".startswith(f"{root}.") for root in allowed):
        outside = f"outside the modules that a recipe may use ({', '.join(sorted(allowed))})"
        raise ValueError(
            f"{show(use)} is {outside}: allow it with --plugin {parts[0]} (plugins=[{parts[0]!r}])"
        )
    found = _import(module)
    public = vars(found).get("__all__")
    if public is None:
        raise ValueError(f"{show(use)}: module {module!r} has no __all__ that makes names public")
    if not isinstance(public, list | tuple):
        raise ValueError(f"{show(use)}: __all__ of {module!r} is no list of names")
    if name not in public:
        fit = [each for each in public if _fits(found, each, kind)]
        raise ValueError(f"{name!r} is not in __all__ of {module!r}.{unknown(name, fit or public)}")
    return _import(module, name)


def _house_names(kind: str) -> list[str]:
    """Return the dotted names of a kind that come with kdx."""
    modules = [_import(name) for name in PACKAGES.get(kind, ())]
    return [f"{m.__name__}.{name}" for m in modules for name in m.__all__ if _fits(m, name, kind)]


def _fits(module: Any, name: str, kind: str) -> bool:
    """Whether what is called `name` in a module can be of a kind; not if it cannot be read."""
    from kdx.recipe.kinds import lack  # here, because it brings torch

    try:
        house = module.__name__.partition(".")[0] in HOUSE
        return lack(getattr(module, name), kind, annotated=house) is None
    except Exception:  # a module's __getattr__ may import what is not installed
        return False


def _import(module: str, name: str = "") -> Any:
    """Return a module, or what is called `name` in it; ValueError, whatever its code raises."""
    try:
        imported = importlib.import_module(module)
        return getattr(imported, name) if name else imported
    except (Exception, SystemExit) as error:
        what = f"{name!r} from {module!r}" if name else f"{module!r}"
        raise ValueError(f"cannot import {what}: {type(error).__name__}: {error}") from error
