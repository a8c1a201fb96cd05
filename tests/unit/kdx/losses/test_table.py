import kdx.losses


def test_table_names_what_the_package_offers():
    assert " ".join(kdx.losses.TABLE) == (
        "cross_entropy kd dkd dist nkd ttm wttm tf_kd "
        "hint pkt at cc crd cwd fsp mgd nst ofd reviewkd rkd sp srrl vid yolo yolo_kd "
        "bce bce_kd mse l1 smooth_l1"
    )
    offered = {getattr(kdx.losses, name) for name in kdx.losses.__all__ if name != "TABLE"}
    assert set(kdx.losses.TABLE.values()) == offered
