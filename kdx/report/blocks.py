"""What a page is made of. Every text is plain: the template escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup


@dataclass(frozen=True)
class Text:
    """A paragraph; `code`: text as it is, with its spaces and lines."""

    kind: ClassVar[str] = "text"
    text: str
    code: bool = False


@dataclass(frozen=True)
class Tiles:
    """Large figures in a row: (label, value, note)."""

    kind: ClassVar[str] = "tiles"
    tiles: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Facts:
    """A list of names and their descriptions."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Bar:
    """A table's cell with a bar for its share in [0, 1]."""

    text: str
    share: float


Cell = str | Bar


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first `words` columns are words, the others numbers."""

    kind: ClassVar[str] = "table"
    heading: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: int = 1


@dataclass(frozen=True)
class Figure:
    """A drawing with a title, a legend of the colours `c0`, `c1`, ..., and a note."""

    kind: ClassVar[str] = "figure"
    title: str
    svg: Markup
    legend: Sequence[str] = ()
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Picture:
    """An image as a data URL, with its caption; `tiny`: shown enlarged, pixel by pixel."""

    url: str
    caption: str
    tiny: bool = False


@dataclass(frozen=True)
class Pictures:
    """Images in a row that wraps."""

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Fold:
    """Blocks that are shown on a click."""

    kind: ClassVar[str] = "fold"
    title: str
    blocks: Sequence["Block"]


Block = Text | Tiles | Facts | Table | Figure | Pictures | Fold


@dataclass(frozen=True)
class Section:
    """A heading and its blocks; without blocks it is left out."""

    heading: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Page:
    """A page: `kicker` is the line above its title, `lead` the one below."""

    kicker: str
    title: str
    lead: str
    sections: Sequence[Section]
