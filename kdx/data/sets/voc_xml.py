"""Annotations of VOC: an XML file for each image, with an object for each box."""

import math
import os
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DTDForbidden, ElementTree

from kdx.util.words import listed

EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocObject(NamedTuple):
    """An object's class, its edges (left, top, right, bottom) in pixels, if difficult."""

    name: str
    edges: tuple[float, float, float, float]
    difficult: bool


def read_annotation(path: str, size: tuple[int, int]) -> list[VocObject]:
    """Read the objects of an image of `size` (height, width).

    VOC's boxes have the numbers of their first and last pixels, from 1; edges lie between pixels,
    from 0. Other elements are ignored. ValueError, without the path, lists all that is wrong: XML
    that is invalid or defines entities, another size than the image's, objects without name or box.
    """
    root = _root(path)
    if root.tag != "annotation":
        raise ValueError(f"root element is <{root.tag}>, not <annotation>")
    objects, problems, given = [], [], _given(root)
    if given != ["0", "0"] and given != [str(side) for side in size]:  # it need not give one
        problems.append("size mismatch: annotation {} x {}, image {} x {}".format(*given, *size))
    for number, element in enumerate(root.findall("object"), 1):
        name = (element.findtext("name") or "").strip()
        try:
            objects.append(_object(element, name))
        except ValueError as error:
            problems.append(f"object {number}, {name!r}: {error}")
    if problems:
        raise ValueError(listed(problems))
    return objects


def given_size(path: str) -> tuple[int, int] | None:
    """Return the (height, width) that an annotation gives, if any; ValueError for invalid XML."""
    height, width = (int(side) if side.isdecimal() else 0 for side in _given(_root(path)))
    return (height, width) if height and width else None


def _given(root: Element) -> list[str]:
    return [(root.findtext(f"size/{side}") or "0").strip() for side in ("height", "width")]


def _root(path: str) -> Element:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise ValueError("not a regular file")  # a pipe would be waited for
        return ElementTree.fromstring(Path(path).read_bytes(), forbid_dtd=True)
    except OSError as error:
        raise ValueError(error.strerror) from error
    except DTDForbidden as error:
        raise ValueError("DOCTYPE refused (entities could exhaust memory): remove it") from error
    except (ParseError, LookupError) as error:  # LookupError: an unknown encoding
        raise ValueError(f"invalid XML: {error}") from error


def _object(element: Element, name: str) -> VocObject:
    box = element.find("bndbox")
    if not name or box is None:
        raise ValueError("no name" if not name else "no bndbox")
    flag = (element.findtext("difficult") or "").strip()  # empty is as if it were not there
    difficult = bool(flag) and _number(element, "difficult") != 0
    xmin, ymin, xmax, ymax = (_number(box, key) for key in EDGES)
    return VocObject(name, (xmin - 1, ymin - 1, xmax, ymax), difficult)


def _number(element: Element, key: str) -> float:
    text = (element.findtext(key) or "").strip()
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{key} {text!r} is not a number")
    return value
