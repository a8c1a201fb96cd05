"""CSV files with several labels in a cell, or columns of numbers."""

import pytest

from kdx.tasks import MultiLabel, Regression
from tests.unit.kdx.data.sets.test_csv_file import opened, root, write

__all__ = ["root"]  # a fixture


def several(root, **arguments):
    tags = "images/ant0.PNG,ant | bee\nimages/ant1.PNG,\nimages/ant2.PNG,bee\nimages/owl0.PNG,ant|"
    write(root, f"path,tags\n{tags}\n")
    write(root, "path,tags\nimages/bee0.PNG,bee|bee\nimages/owl1.PNG,\n", "test.csv")
    return opened(root, label="tags", separator="|", **arguments)


def test_several_labels_in_a_cell(root):
    data = several(root)
    assert isinstance(data.task, MultiLabel)
    assert (list(data.classes), data.task.chance) == (["ant", "bee"], 0.5)
    assert data.train.targets.tolist() == [[1, 1], [0, 0], [0, 1], [1, 0]]
    assert data.test.targets.tolist() == [[0, 1], [0, 0]]
    assert data.train.labels.tolist() == [0, 2, 1, 0]  # the rarest, or none
    assert list(data.notes) == ["csv: 1 class without test images: ant"]
    data.task.check_source(data.train)
    images, targets = data.train.views([(0, 2)], data.input, None, seed=0)
    assert (list(images.shape), targets.tolist()) == ([1, 3, 8, 8], [[0, 1]])
    assert list(several(root, classes=["bee", "fox", "ant"]).train.targets[3]) == [0, 0, 1]


def test_columns_of_numbers(root):
    write(root, "path,x,y\nimages/ant0.PNG,1,5\nimages/ant1.PNG,3,5\nimages/ant2.PNG,2,5\n")
    write(root, "path,y,x\nimages/bee0.PNG,6,0.5\n", "test.csv")
    data, std = opened(root, targets=["x", "y"]), (2 / 3) ** 0.5
    assert isinstance(data.task, Regression)
    assert data.task.mean == pytest.approx([2, 5])
    assert data.task.std == pytest.approx([std, 1])  # 1 for numbers that are all equal
    assert data.train.targets[:, 0].tolist() == pytest.approx([-1 / std, 1 / std, 0])
    assert data.test.targets[0].tolist() == pytest.approx([-1.5 / std, 1])
    assert list(data.notes) == ["csv: networks learn (x - 2) / 0.816497, (y - 5) / 1"]
    plain = opened(root, targets=["x"], standardize=False)
    assert (plain.train.targets.tolist(), plain.task.std) == ([[1], [3], [2]], [1])
    assert not plain.notes


def test_several_labels_and_numbers_that_are_refused(root):
    write(root, "path,x\nimages/ant0.PNG,one\nimages/ant1.PNG,inf\nimages/ant2.PNG,1e3\n")
    write(root, "path,x\nimages/bee0.PNG,2\n", "test.csv")
    message = r"csv: 2 targets not a finite number: .*train\.csv:2: 'one'; .*train\.csv:3: 'inf'$"
    with pytest.raises(ValueError, match=message):
        opened(root, targets=["x"])
    write(root, "path,label\nimages/ant0.PNG,\n")
    write(root, "path,label\nimages/bee0.PNG,\n", "test.csv")
    with pytest.raises(ValueError, match="csv: no sample to train on has a label"):
        opened(root, separator="|")
