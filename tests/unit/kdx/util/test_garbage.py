import gc

from kdx.util.garbage import collect_as_usual, collected_seldom


def test_the_collector_is_as_before_afterwards():
    before = gc.get_threshold()
    with collected_seldom(), collected_seldom():
        assert gc.get_threshold() == (50_000, 20, 20)
    assert gc.get_threshold() == before
    with collected_seldom():
        collect_as_usual()
        assert gc.get_threshold() == before
    collect_as_usual()
    assert gc.get_threshold() == before
