"""Recipes with a memo, as the memo's own tests have them."""

from tests.unit.kdx.memo.conftest import asked, guided, loop_of

__all__ = ["asked", "guided", "loop_of"]
