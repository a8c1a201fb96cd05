import re

import pytest
from PIL import Image

from kdx.data import Augment, FileImages, Views, csv
from kdx.data.sets import stored
from tests.unit.kdx.data.sets.made import check_trains

COLOURS = {"ant": (255, 0, 0), "bee": (0, 255, 0), "owl": (0, 0, 255)}


@pytest.fixture
def root(tmp_path):
    """Return a folder of four plain images a class, and train.csv and test.csv of them."""
    (tmp_path / "images").mkdir()
    lists = {"train": ["path,label"], "test": ["path,label"]}
    for name, colour in COLOURS.items():
        for i in range(4):
            Image.new("RGB", (20, 16), colour).save(tmp_path / f"images/{name}{i}.PNG")
            lists["test" if i == 3 else "train"].append(f"images/{name}{i}.PNG,{name}")
    for part, lines in lists.items():
        (tmp_path / f"{part}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def opened(root, **arguments):
    lists = {"train": str(root / "train.csv"), "test": str(root / "test.csv"), "size": 8}
    return csv(**lists | arguments)


def write(root, content: str | bytes, name="train.csv"):
    (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_file_for_each_part(root):
    data = opened(root)
    assert list(data.classes) == ["ant", "bee", "owl"]
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [0, 1, 2]
    assert isinstance(data.test, FileImages)
    assert data.test.name(2) == str(root / "images/owl3.PNG")
    assert not data.notes
    assert data.input.hw == (8, 8)
    image, label = data.test.view(1, data.input, None)
    assert image.shape == (3, 8, 8)
    assert image.flatten(1).float().mean(1).tolist() == [0, 255, 0]
    assert label == 1
    Views(data.train, data.input, seed=0, augment=Augment(flip=True, resized_crop=(0.5, 1)))


def test_one_file_with_a_column_of_splits(root):
    write(
        root,
        "id,where,file,class\n1,fit,images/ant0.PNG,1\n2,dev,images/ant1.PNG,1\n"
        "3,held,images/bee1.PNG,0\n4,fit,images/bee0.PNG,0\n",
    )
    arguments = {"file": str(root / "train.csv"), "split": "where", "path": "file"}
    data = opened(root, **arguments, label="class", train="fit", test="held")
    assert list(data.train.files) == [str(root / f"images/{n}0.PNG") for n in ("ant", "bee")]
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([1, 0], [0])
    assert list(data.notes) == [
        f"csv: {root}/train.csv: 1 row of other splits left out: dev",
        "csv: 1 class without test images: 1",
    ]
    message = r"train\.csv: no rows of val in column 'where', which has dev, fit, held; set train"
    with pytest.raises(ValueError, match=message):
        opened(root, **arguments, label="class", train="fit", test="val")


def test_what_spreadsheets_write(root):
    (root / "images/ant0.PNG").rename(root / 'images/a, "b" é.png')
    text = (
        'path;label\r\n\r\n"images/a, ""b"" é.png"; ant \r\n images/bee0.PNG;"bee"\r\n'
        ';\r\n"images/owl0.PNG"; "owl"'
    )
    write(root, b"\xef\xbb\xbf" + text.encode())
    write(root, "\ufeffpath;label\r\nimages/owl1.PNG;owl\r\n", "test.csv")
    data = opened(root, delimiter=";")
    assert data.train.name(0) == str(root / 'images/a, "b" é.png')
    assert data.train.labels.tolist() == [0, 1, 2]
    assert data.test.labels.tolist() == [2]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_tabs_and_what_excel_calls_unicode_text(root, encoding):
    (root / "images/ant0.PNG").rename(root / "images/é 日.png")
    write(root, "path\tlabel\r\nimages/é 日.png\tant\r\nimages/bee0.PNG\tbee".encode(encoding))
    write(root, b"path\tlabel\nimages/owl1.PNG\tant\n", "test.csv")
    for delimiter in ("tab", "\t", r"\t"):
        data = opened(root, delimiter=delimiter)
        assert data.train.files[0] == str(root / "images/é 日.png")
        assert data.train.labels.tolist() == [0, 1]


def test_space_after_quotes(root):
    (root / "images/bee0.PNG").rename(root / 'images/a "b" ,c.png')
    rows = '"images/ant0.PNG" , "ant"  \n"images/a ""b"" ,c.png"  ,bee\nimages/owl0.PNG,"owl" '
    write(root, f"path,label\n{rows}\n")
    data = opened(root)
    assert data.train.files[1] == str(root / 'images/a "b" ,c.png')
    assert data.train.labels.tolist() == [0, 1, 2]


def test_problems_of_both_files_come_together(root):
    write(root, "path,label\nimages/ant0.PNG\n")
    write(root, "path,name\n", "test.csv")
    message = r"2 problems: .*train\.csv:2: 1 cell.*test\.csv:1: no col"
    with pytest.raises(ValueError, match=message):
        opened(root)
    (root / "train.csv").unlink()
    with pytest.raises(ValueError, match=r"2 problems: .*train\.csv: No such file.*test\.csv:1: "):
        opened(root)


def test_images_relative_to_a_root_and_absolute(root):
    (root / "lists").mkdir()
    write(root, f"path,label\nant0.PNG,a\n{root}/images/bee0.PNG,b\n", "lists/train.csv")
    write(root, "path,label\nbee1.PNG,b\n", "lists/test.csv")
    lists = {part: str(root / f"lists/{part}.csv") for part in ("train", "test")}
    data = csv(**lists, root=str(root / "images"))
    assert list(data.train.files) == [str(root / f"images/{name}0.PNG") for name in ("ant", "bee")]
    with pytest.raises(ValueError, match=r"lists/train\.csv:2: .*/lists/ant0\.PNG: No such file"):
        csv(**lists)


def test_repeated_rows_are_left_out_and_shared_images_told(root):
    rows = "images/ant0.PNG,ant\nimages/owl3.PNG,owl\n./images/ant0.PNG, ant\n"
    write(root, f"path,label\n{rows}images/bee0.PNG,bee\n")
    data = opened(root)
    assert data.train.labels.tolist() == [0, 2, 1]
    assert list(data.notes) == [
        f"csv: 1 row left out that repeat earlier ones: {root}/train.csv:4",
        f"csv: 1 test image also in the training split: {root}/images/owl3.PNG",
    ]


def test_an_image_with_two_labels(root):
    write(root, "path,label\nimages/ant0.PNG,ant\n\nimages/ant0.PNG,bee\n")
    message = r"1 image with two labels: .*train\.csv:4: .*/ant0\.PNG is labelled 'bee', but 'ant'"
    with pytest.raises(ValueError, match=message):
        opened(root)
    write(root, "path,label\nimages/owl0.PNG,owl\nimages/owl0.PNG,bee\n", "test.csv")
    message = r"2 images .*train\.csv:4: .*; .*test\.csv:3: .*'bee', but"
    with pytest.raises(ValueError, match=message):
        opened(root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path,label\na.png,x,1\nb.png,\n,\n,x\nc.png\n", "4 problems: .*:2: 3 cells, but"),
        ("path,label\nb.png,\n", r"1 problem: .*train\.csv:2: no label$"),
        ("path,label\n\n ,x\n", r"1 problem: .*train\.csv:3: no path$"),
        ("path,label\na.png\n", r":2: 1 cell, but the header has 2; put cells that contain ','"),
        (b"path,label\na.png,x\n\xe9.png,x\n", r"csv:3: not UTF-8: .*udce9\.png"),
        (b"path,label\na.png,x\0\n", r"csv:2: contains a NUL byte: "),
        ('path,label\n"a.png"b,x\n', r"csv: .*train\.csv:2: invalid CSV: ',' expected after '\"'"),
        ('path,label\nb.png,x\n"a.png,x\n', r"train\.csv:3: invalid CSV: unexpected end of data"),
        (
            'path,label\na.png\n"b"c,x\nd.png,\n',
            r"3 problems: .*csv:2: 1 cell, .*; .*csv:3: invalid CSV: .*; .*csv:4: no label$",
        ),
        ("path,label\n".encode("utf-16-le"), r"csv:1: not UTF-8: zero bytes, as of UTF-16 without"),
        ("path,label\na,b\n".encode("utf-16")[:-1], r"csv: not UTF-16: truncated data: save it"),
        ("path,label\nC:\\a.png,x\nD:/b.png,x\n", r"2 problems: .*csv:2: C:\\a\.png is a Windows"),
        ("file;label\na;b\n", r"train\.csv:1: no column path, label in the header: 'file;label'"),
        ("\npath,label,path\n", r"train\.csv:2: duplicate columns: path"),
        ("path,label\n\n", r"train\.csv: no rows below the header"),
        ("", r"train\.csv: no rows below the header"),
    ],
)
def test_invalid_files(root, content, message):
    write(root, content)
    with pytest.raises(ValueError, match=message):
        opened(root)


def test_a_place_is_where_a_row_of_several_lines_starts(root):
    write(root, 'path,label,note\nimages/ant0.PNG,ant,"a\nb"\nimages/gone.PNG,ant,"\n\n"\n')
    with pytest.raises(ValueError, match=r"train\.csv:4: .*gone\.PNG: No such file"):
        opened(root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"test": "none.csv"}, r"csv: .*none\.csv: No such file .*: set train, test or"),
        ({"train": "a.csv", "test": "a.csv"}, r"csv: train and test are both 'a\.csv'"),
        ({"delimiter": ",,"}, r"csv: delimiter: ',,' must be one character"),
        ({"size": 0}, r"csv: size: 0 must be 1 or more"),
        ({"classes": ["bee", "owl"]}, r"csv:2: 'ant'; .*train\.csv:4: 'ant'.*has bee, owl"),
        ({"separator": "|", "targets": ["x"]}, r"separator: '\|': for labels, one character or"),
        ({"separator": ""}, "csv: separator: '': for labels"),
        ({"targets": ["x", "x"]}, "csv: targets: duplicate columns: x"),
    ],
)
def test_arguments(root, arguments, message):
    with pytest.raises(ValueError, match=message):
        opened(root, **arguments)


def test_bad_images_are_named_with_the_row_or_left_out(root, monkeypatch):
    (root / "images/bee1.PNG").write_text("no image")
    (root / "images/owl2.PNG").unlink()
    message = (
        r"csv: 2 of 12 files cannot be read: .*train\.csv:6: .*/bee1\.PNG: not an image; "
        r".*train\.csv:10: .*/owl2\.PNG: No such file .* skip_bad: 2 or more$"
    )
    with pytest.raises(ValueError, match=message):
        opened(root)
    data = opened(root, skip_bad=2)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert re.search("csv: 2 of 12 files left out, which cannot be read: .*csv:6: ", data.notes[0])
    with pytest.raises(ValueError, match=r"1 of 12 images .*train\.csv:10: no file '.*owl2\.PNG'"):
        opened(root, verify=False)
    monkeypatch.setattr(stored, "VERIFY_AT_MOST", 11)
    with pytest.raises(ValueError, match=r"1 of 12 images .*train\.csv:10: no file '.*owl2\.PNG'"):
        opened(root)


def test_a_run_of_one_epoch(root, tmp_path):
    files = f"train: {root}/train.csv, test: {root}/test.csv"
    check_trains(tmp_path, f"use: csv, {files}, size: 16, batch_size: 3")
