import os

import pytest

from kdx.data.sets.voc_xml import VocObject, given_size, read_annotation

SIZE = (30, 40)


def xml(*objects: str, size: str = "") -> str:
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def thing(
    box=(1, 1, 10, 10), *, name: str = "dog", difficult: object = None, inside: str = ""
) -> str:
    edges = "".join(
        f"<{key}>{value}</{key}>"
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name>{name}</name>{flag}{inside}<bndbox>{edges}</bndbox></object>"


@pytest.fixture
def read(tmp_path):
    """Return a function: the objects of an annotation with that content."""

    def reading(content: str | bytes) -> list[VocObject]:
        path = tmp_path / "a.xml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return read_annotation(str(path), SIZE)

    return reading


def test_first_and_last_pixels_become_edges(read):
    assert read(xml(thing((3, 4, 20, 25)))) == [VocObject("dog", (2, 3, 20, 25), False)]


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ((1, 1, 40, 30), (0, 0, 40, 30)),  # at the border
        ((0, 0, 41, 31), (-1, -1, 41, 31)),  # beyond it: see test_voc.py
        ((7, 9, 7, 9), (6, 8, 7, 9)),  # one pixel
        ((40, 30, 40, 30), (39, 29, 40, 30)),
        ((45.5e-1, 2.25, 9.5, "10.75"), (3.55, 1.25, 9.5, 10.75)),
        ((" 2 ", "2", "5\n", "5"), (1, 1, 5, 5)),
    ],
)
def test_awkward_boxes(box, edges, read):
    (found,) = read(xml(thing(box)))
    assert found.edges == pytest.approx(edges)


@pytest.mark.parametrize(
    ("text", "is_difficult"), [(None, False), (0, False), (1, True), ("1.0", True)]
)
def test_difficult_objects(text, is_difficult, read):
    assert read(xml(thing(difficult=text)))[0].difficult is is_difficult


def test_no_object_at_all(read):
    assert read(xml()) == []


def test_parts_are_not_objects(read):
    part = "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part>"
    found = read(xml(thing((2, 2, 9, 9), name="person", inside=part)))
    assert found == [VocObject("person", (1, 1, 9, 9), False)]


def test_what_else_there_is_and_encodings(read):
    content = xml("<folder>VOC2007</folder>", thing(name="bête"))
    for encoding in ("utf-8", "utf-16", "latin-1"):
        head = f'<?xml version="1.0" encoding="{encoding}"?><!-- by hand -->'
        assert read((head + content).encode(encoding))[0].name == "bête"


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ((3, 4, "nan", 25), "xmax 'nan' is not a number"),
        ((3, 4, "1e999", 25), "xmax '1e999' is not a number"),
        (("", 4, 9, 25), "xmin '' is not a number"),
    ],
)
def test_boxes_that_are_none(box, problem, read):
    with pytest.raises(ValueError, match=f"^object 1, 'dog': {problem}"):
        read(xml(thing(box)))


def test_all_problems_of_an_annotation(read):
    size = "<size><width>41</width><height>30</height></size>"
    objects = (
        thing(name=" "),
        "<object><name>cat</name></object>",
        thing(difficult="maybe"),
        thing(),
        thing(("", 5, 4, 4)),
    )
    message = (
        "size mismatch: annotation 30 x 41, image 30 x 40, object 1, '': no name, "
        "object 2, 'cat': no bndbox, object 3, 'dog': difficult 'maybe' is not a number, "
        "object 5, 'dog': xmin '' is not a number"
    )
    with pytest.raises(ValueError, match=f"^{message}"):
        read(xml(*objects, size=size))


def test_a_size_need_not_be_given(read):
    for size in ("", "<size><width>0</width><height>0</height></size>", "<size/>"):
        assert len(read(xml(thing(), size=size))) == 1


BOMB = """<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>"""


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "invalid XML: no element found"),
        ("<annotation><object></annotation>", "invalid XML: mismatched tag: line 1, column 22"),
        (b"\xff\xd8\xff\xe0", "invalid XML: not well-formed"),
        ('<?xml version="1.0" encoding="none"?><annotation/>', "invalid XML: unknown encoding"),
        ("<html/>", "root element is <html>, not <annotation>"),
        (BOMB + xml(thing(name="&b;")), "DOCTYPE refused .entities could exhaust memory"),
        ((BOMB + xml(thing(name="&b;"))).encode("utf-16"), "DOCTYPE refused"),
    ],
)
def test_files_that_are_no_annotations(content, problem, read):
    with pytest.raises(ValueError, match=f"^{problem}"):
        read(content)


def test_an_annotation_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"^No such file or directory$"):
        read_annotation(str(tmp_path / "a.xml"), SIZE)


@pytest.mark.parametrize("difficult", ["", " ", "\n", "<!-- none -->", "0", "0.0"])
def test_an_empty_flag_is_none(difficult, read):
    assert read(xml(thing(difficult=difficult))) == [VocObject("dog", (0, 0, 10, 10), False)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("<size><width>40</width><height>30</height></size>", (30, 40)),
        ("<size><width>0</width><height>0</height></size>", None),
        ("<size><width>40</width></size>", None),
        ("<size><width/><height/></size>", None),
        ("<size><width>4e1</width><height>30</height></size>", None),
        ("", None),
    ],
)
def test_the_size_that_is_given(size, expected, tmp_path):
    (tmp_path / "a.xml").write_text(xml(size=size))
    assert given_size(str(tmp_path / "a.xml")) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "a.xml")
    with pytest.raises(ValueError, match=r"^not a regular file"):
        read_annotation(str(tmp_path / "a.xml"), SIZE)
