import time

from kdx_lab.complexity.rounds import Contender, Quartiles, Rounds, interleave, measure


def test_a_spread_is_the_median_between_the_quartiles():
    assert Quartiles.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Quartiles(3.0, 2.0, 4.0)
    assert Quartiles.of([7.0]) == Quartiles(7.0, 7.0, 7.0)
    assert str(Quartiles(0.973, 0.961, 0.98)) == "0.97 [0.96, 0.98]"
    assert str(Quartiles(8642.3, 1.0, 9e9)) == "8,642"


def test_ratios_are_taken_round_by_round():
    rounds = Rounds({"a": [1.0, 20.0, 3.0], "b": [2.0, 10.0, 6.0]})
    assert rounds.ratio("a", "b") == Quartiles(0.5, 0.5, 1.25)
    assert rounds.speed("a").median == 3.0


def test_every_round_starts_with_another_contender():
    order = []
    interleave(lambda name: order.append(name) or 1.0, ["A", "B", "C"], rounds=3)
    assert "".join(order) == "ABCBCACAB"


def test_a_contender_is_built_once_warmed_up_and_repeated():
    built, calls = [], []

    def build():
        built.append(1)
        return lambda: calls.append(time.sleep(0.002))

    slow = Contender("slow", build, images=3)
    speeds = measure([slow], rounds=4, repeats=5, warmup=2).speeds["slow"]
    assert (len(built), len(calls)) == (1, 2 + 4 * 5)
    assert all(0 < speed < 3 / 0.002 for speed in speeds)
    assert len(measure([slow], rounds=1, seconds=0.02).speeds["slow"]) == 1
