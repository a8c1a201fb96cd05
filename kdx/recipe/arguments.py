"""What a recipe's `use:` becomes: a factory, and arguments checked against its signature."""

import copy
import inspect
import json
import typing
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from inspect import Parameter
from typing import Annotated, Any

from pydantic import ConfigDict, Field, PydanticUserError, Strict, TypeAdapter, ValidationError

from kdx.recipe.errors import Problem, RecipeError
from kdx.recipe.wording import explain, unknown
from kdx.util.errors import reason

_FACTS = frozenset({"num_classes", "in_channels", "image_size", "anchors"})
OF_RUN = frozenset(
    {
        "teacher_network", "student_network", "train_images", "class_counts", "label_shares",
        "run_seed",
    }
)  # fmt: skip
"""What losses and networks may ask of the run, and no recipe sets: modules, the size of the
training split, of its classes, the shares of its labels, the seed."""

OF_TRACKERS = frozenset({"run_dir", "run_id"})
"""What a tracker gets of the run, and a recipe cannot set."""

HIDDEN = {
    "loss": OF_RUN - {"student_network"},
    "network": frozenset({"student_network"}),
    "tracker": OF_TRACKERS,
}

PROVIDED = {
    "network": _FACTS | {"student_network"},
    "augmentation": frozenset({"size"}),
    "loss": _FACTS | OF_RUN - {"student_network"},
    "optimizer": frozenset({"params"}),
    "transform": frozenset({"input_shape"}),
    "tracker": OF_TRACKERS | {"run_name"},
}
"""What kdx itself passes to a factory of each kind, if its signature names it."""

_RATE = Annotated[float, Strict(), Field(gt=0, le=1e30)]
LEARNING_RATE = Parameter("lr", Parameter.KEYWORD_ONLY, annotation=_RATE)
_OF_A_CALL = frozenset({"student", "teacher", "target", "targets", "logits"})
_ITSELF = "if {} is the loss itself, name a function or a class that makes it"


@dataclass(frozen=True)
class Component:
    """A factory of a `kind` (network, dataset, loss, ...) and its arguments, checked.

    `use` and `arguments` are as in the recipe, at `place` (file and line, and overrides of the
    arguments) and `where` (key).
    """

    kind: str
    use: str
    arguments: Mapping[str, Any]
    factory: Callable[..., Any] = field(repr=False)
    place: str = field(repr=False, compare=False)
    where: str = field(repr=False, compare=False)

    def build(self, **provided: Any) -> Any:
        """Return a new object: what the factory makes of the arguments.

        It gets those of `provided` that its signature names and the recipe does not set.
        Raises RecipeError if the factory fails or its result is not of the component's kind.
        """
        from kdx.recipe.kinds import lack_built  # here, because it brings torch

        try:
            built = self.factory(**fill(self.factory, self.arguments, provided))
        except Exception as error:  # the factory may be anybody's, and raise anything
            raise self.refusal(reason(error)) from error
        except SystemExit as error:
            raise self.refusal(f"ends Python (SystemExit: {error})") from error
        if lack := lack_built(built, self.kind):
            raise self.refusal(lack)
        return built

    def refusal(self, message: str) -> RecipeError:
        """Return the error that says what is wrong with the component, at its place."""
        return RecipeError([Problem(self.place, self.where, f"{self.use!r}: {message}")])


def check(
    factory: Any, kind: str, arguments: Mapping[str, Any], *, reserved: Collection[str] = ()
) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with `arguments`: the argument's name, and a message.

    `reserved` are the keys of the section that never reach the factory.
    """
    parameters, takes_any = parameters_of(factory)
    provided = PROVIDED.get(kind, frozenset())
    names = parameters.keys() - set(reserved)
    if kind == "optimizer":  # its learning rate has no default here, whatever torch's is
        names -= provided
        parameters["lr"] = LEARNING_RATE
    hidden = HIDDEN.get(kind, frozenset()) & parameters.keys()
    names -= hidden
    for name, value in arguments.items():
        if name in hidden or (name not in names and not takes_any):
            yield name, f"unknown argument.{unknown(name, names | set(reserved))}"
        elif name in parameters and (problem := _mismatch(parameters[name], value)):
            yield name, problem
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in provided and name not in arguments:
            lack = _missing(parameter, reserved)
            own = kind == "loss" and inspect.isfunction(factory) and name in _OF_A_CALL
            yield name, f"{lack}; {_ITSELF.format(factory.__name__)}" if own else lack


def fill(factory: Any, arguments: Mapping[str, Any], provided: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments for a call of `factory`.

    These are `arguments`, and what the signature names of `provided`. Values are converted to the
    types of the annotations (a list to a tuple, a string to a Path), and are new objects on every
    call. Raises ValueError if a required argument is in neither, such as `anchors` for a data set
    without boxes.
    """
    parameters, _ = parameters_of(factory)
    filled = {name: value for name, value in provided.items() if name in parameters}
    filled |= {name: _convert(parameters.get(name), value) for name, value in arguments.items()}
    for name, parameter in parameters.items():
        if parameter.default is parameter.empty and name not in filled:
            raise ValueError(f"missing argument {name!r}, which the data set's task does not give")
    return filled


def parameters_of(factory: Any) -> tuple[dict[str, Parameter], bool]:
    """Return the parameters of `factory` by name, and whether it takes any other keyword.

    Their annotations are resolved, or Any if they cannot be. What `**options: Unpack[Options]`
    stands for are parameters of their own, optional.
    """
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):  # written in C, without a signature
        return {}, True
    made = factory.func if isinstance(factory, partial) else factory
    hints = _hints(made.__init__ if isinstance(made, type) else made)
    named, takes_any = {}, False
    for name, parameter in signature.parameters.items():
        hint = hints.get(name, Any)
        if parameter.kind is parameter.VAR_KEYWORD:
            unpacked = typing.get_args(hint) if typing.get_origin(hint) is typing.Unpack else ()
            takes_any = not unpacked
            for option, type_ in _hints(*unpacked).items() if unpacked else ():
                kind = Parameter.KEYWORD_ONLY
                named[option] = Parameter(option, kind, default=None, annotation=type_)
        elif parameter.kind is not parameter.VAR_POSITIONAL:
            named[name] = parameter.replace(annotation=hint)
    return named, takes_any


def _hints(annotated: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(annotated, include_extras=True)
    except Exception:  # names that only a type checker knows: nothing to check against
        return {}


def _missing(parameter: Parameter, reserved: Collection[str]) -> str:
    if parameter.kind is parameter.POSITIONAL_ONLY:
        return "is a positional-only parameter, which a recipe cannot set"
    if parameter.name in reserved:
        return "is required, but kdx uses this key itself: rename the parameter"
    return "is missing"


def _mismatch(parameter: Parameter, value: Any) -> str | None:
    try:
        _convert(parameter, value)
    except ValidationError as error:
        return ", or ".join(dict.fromkeys(explain(each) for each in error.errors()))
    return None


def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(annotation, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError:  # dataclasses and models have a configuration of their own
        return TypeAdapter(annotation)


def _convert(parameter: Parameter | None, value: Any) -> Any:
    """Return a copy of `value` as the parameter's annotation wants it; ValidationError if wrong."""
    adapter = None
    if parameter and parameter.annotation is not Any:
        with suppress(Exception):  # not a type of data, such as Tensor: left to the factory
            adapter = _adapter(parameter.annotation)
    # As JSON, strict means that "4" is not a number, but a list may be a tuple.
    return (
        adapter.validate_json(json.dumps(value), strict=True) if adapter else copy.deepcopy(value)
    )
