from kdx.words import counted


def test_one_is_singular_and_thousands_are_grouped():
    assert [counted(n, "epoch") for n in (0, 1, 2, 1437)] == [
        "0 epochs", "1 epoch", "2 epochs", "1,437 epochs",
    ]  # fmt: skip
    assert [counted(n, "process", "processes") for n in (1, 2)] == ["1 process", "2 processes"]
