import pytest

from kdx.data.sets.labelling import number_classes


def numbered(train, test=(), classes=None):
    splits = {
        "train": [(f"a.csv:{i + 2}", label) for i, label in enumerate(train)],
        "test": [(f"b.csv:{i + 2}", label) for i, label in enumerate(test)],
    }
    names, labels, notes = number_classes("csv", splits, classes)
    return names, [each.tolist() for each in labels], notes


def test_names_come_in_order():
    assert numbered(["owl", "ant", "007"], ["ant"])[:2] == (["007", "ant", "owl"], [[2, 1, 0], [1]])
    assert numbered(["b", "a"], classes=["b", "c", "a"])[:2] == (["b", "c", "a"], [[0, 2], []])


def test_integers_come_by_their_value():
    names, labels, _ = numbered(["10", "9", " 2", "009"], [2, 10])
    assert (names, labels) == (["2", "9", "10"], [[2, 1, 0, 1], [0, 2]])
    assert numbered(["1", "0"], ["1"], ["ant", "owl"])[:2] == (["ant", "owl"], [[1, 0], [1]])
    assert numbered(["7", "3"], classes=["7", "3"])[:2] == (["7", "3"], [[0, 1], []])


def test_classes_without_images_are_noted():
    notes = numbered(["a", "b"], ["a"], ["a", "b", "c"])[2]
    assert notes == [
        "csv: 1 class without train images: c",
        "csv: 2 classes without test images: b, c",
    ]


def test_labels_of_no_class():
    message = r"csv: 2 labels of unknown classes: b\.csv:2: 'c'; b\.csv:4: 'd'; the train images"
    with pytest.raises(ValueError, match=message):
        numbered(["a", "b"], ["c", "a", "d"])
    message = r"1 label of unknown classes: a\.csv:3: '2'; classes has 2 names, 0 to 1"
    with pytest.raises(ValueError, match=message):
        numbered(["0", "2"], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"a\.csv:3: '-1'; classes has 2 names, 0 to 1"):
        numbered(["0", "-1"], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"a\.csv:2: 'x'; classes has a, b"):
        numbered(["x"], classes=["a", "b"])
    with pytest.raises(ValueError, match="csv: duplicate classes: a"):
        numbered(["a"], classes=["a", "b", "a"])
