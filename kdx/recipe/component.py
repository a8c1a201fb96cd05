"""A part of a recipe that names code: `use`, and the arguments for what it names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from kdx.recipe.arguments import fill
from kdx.recipe.errors import Problem, RecipeError
from kdx.util.errors import reason


@dataclass(frozen=True)
class Component:
    """A factory of a `kind` (network, dataset, loss, ...) and its arguments, checked.

    `use` and `arguments` are as in the recipe, at `place` (file and line) and `where` (key).
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
        if lack := lack_built(built, self.kind):
            raise self.refusal(lack)
        return built

    def refusal(self, message: str) -> RecipeError:
        """Return the error that says what is wrong with the component, at its place."""
        return RecipeError([Problem(self.place, self.where, f"{self.use!r}: {message}")])
