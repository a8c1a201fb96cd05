import kdx.losses


def test_table_names_what_the_package_offers():
    assert list(kdx.losses.TABLE) == ["cross_entropy", "kd", "hint", "pkt", "yolo", "yolo_kd"]
    offered = {getattr(kdx.losses, name) for name in kdx.losses.__all__ if name != "TABLE"}
    assert set(kdx.losses.TABLE.values()) == offered
