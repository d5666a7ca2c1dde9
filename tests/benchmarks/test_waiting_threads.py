"""The comparison of settings of OpenMP's threads: who takes turns, and which steps are compared."""


def test_ratios_compare_steps_of_the_same_round(monkeypatch):
    import waiting_threads

    seconds = {"first": iter([1.0, 10.0, 4.0]), "second": iter([2.0, 5.0, 8.0])}
    turns = []

    def take_step(worker):
        turns.append(worker)
        wall = next(seconds[worker])
        return {"wall": wall, "cpu": wall / 2}

    monkeypatch.setattr(waiting_threads, "take_step", take_step)
    figures = waiting_threads.measure({"first": "first", "second": "second"}, rounds=3, busy=False)
    assert turns == ["first", "second"] * 3
    assert figures["first"] == {"wall_s": 4.0, "cpu_s": 2.0, "wall_ratio": 1.0, "cpu_ratio": 1.0}
    assert figures["second"] == {"wall_s": 5.0, "cpu_s": 2.5, "wall_ratio": 2.0, "cpu_ratio": 2.0}
    assert figures["load_average"] >= 0


def test_busy_loops_end_with_the_block():
    from waiting_threads import busy_loops

    with busy_loops(2) as loops:
        assert [loop.poll() for loop in loops] == [None, None]
    assert all(loop.poll() is not None for loop in loops)
