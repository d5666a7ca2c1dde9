import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader

from modeling_atri.threads_atri import ReadAhead, Room, map_in_threads


@pytest.fixture(autouse=True)
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def state() -> list[int]:
    """Threads there are, and how many torch takes: here, and in a thread to come."""
    found = [threading.active_count(), torch.get_num_threads()]
    other = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    other.start()
    other.join()
    return found


def thread_and_teams(item: int) -> tuple[str, int, list[str]]:
    inside = map_in_threads(lambda _: threading.current_thread().name, range(2))
    return threading.current_thread().name, torch.get_num_threads(), inside


def test_results_are_in_order_and_made_at_the_same_time():
    together = threading.Barrier(3)

    def square(number):
        together.wait(timeout=60)  # for two others
        return number * number

    assert map_in_threads(square, range(9)) == [number * number for number in range(9)]


def test_each_thread_has_one_of_torch_and_begins_no_others():
    for name, num_threads, inside in map_in_threads(thread_and_teams, range(6)):
        assert name.startswith("atri")
        assert num_threads == 1
        assert inside == [name, name]


@pytest.mark.parametrize("num_threads, num_items", [(1, 5), (3, 1), (3, 0)])
def test_nothing_begins_a_thread_where_one_will_do(num_threads, num_items):
    torch.set_num_threads(num_threads)
    threads = map_in_threads(lambda _: threading.current_thread(), range(num_items))
    assert threads == [threading.current_thread()] * num_items


def test_the_error_is_that_of_the_first_item_and_threads_are_gone():
    before, second_failed = state(), threading.Event()

    def fail(number):
        if number == 1:
            second_failed.wait(timeout=60)
        if number == 2:
            second_failed.set()
        if number in (1, 2):
            raise ValueError(f"item {number}")
        return number

    with pytest.raises(ValueError, match="item 1"):
        map_in_threads(fail, range(50))
    assert state() == before
    map_in_threads(str, range(4))
    assert state() == before


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork")
def test_a_process_forks_afterwards_and_workers_begin_no_threads():
    map_in_threads(str, range(4))
    loader = DataLoader(
        range(4),
        batch_size=2,
        num_workers=1,
        multiprocessing_context="fork",
        timeout=60,
        collate_fn=lambda batch: map_in_threads(lambda _: threading.current_thread().name, batch),
    )
    assert list(loader) == [["MainThread", "MainThread"]] * 2


def test_heavy_results_do_not_pile_up():
    """Also where many were begun before anybody knew that they are heavy."""
    num_light, num_heavy, num_workers, heavy = 40, 20, 3, 100
    all_begun, too_many = threading.Event(), threading.Event()
    made, taken = [], []

    def numbers():
        yield from range(num_light + num_heavy - 1)
        all_begun.set()
        yield num_light + num_heavy - 1

    def weight(number):
        if number < num_light:
            return 1
        all_begun.wait()
        made.append(number)
        if len(made) - len(taken) > num_workers + 1:  # one that is being taken may be counted still
            too_many.set()
        return heavy

    with ReadAhead(
        weight, numbers(), num_workers, num_heavy, weigh=lambda weight: weight, max_weight=heavy
    ) as results:
        found = []
        for result in results:
            found.append(result)
            if result == heavy:
                taken.append(result)
            if len(taken) == 1:
                assert not too_many.wait(0.2)
    assert found == [1] * num_light + [heavy] * num_heavy
    assert not too_many.is_set()


@pytest.mark.parametrize("num_workers", [0, 1, 4])
def test_results_that_are_read_ahead_are_in_order(num_workers):
    begun, most = [], 7

    def items():
        for number in range(100):
            begun.append(number)
            yield number

    with ReadAhead(lambda number: number * number, items(), num_workers, most) as results:
        for number, result in enumerate(results):
            assert result == number * number
            assert len(begun) - number <= most + 1
    assert len(begun) == 100


@pytest.fixture
def waiting(monkeypatch):
    """A semaphore that is released whenever a thread begins to wait for room."""
    begun = threading.Semaphore(0)

    class Watched(threading.Condition):
        def wait(self, timeout=None):
            begun.release()
            return super().wait(timeout)

    monkeypatch.setattr("modeling_atri.threads_atri.Condition", Watched)
    return begun


def test_threads_share_a_room_up_to_its_size():
    room, lock, inside, seen = Room(10), threading.Lock(), [], []

    def hold(size):
        with room.taken(size):
            with lock:
                inside.append(size)
                seen.append(list(inside))
            with lock:
                inside.remove(size)

    sizes = [1 + (7 * number) % 14 for number in range(300)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, sizes))
    assert sorted(together[-1] for together in seen) == sorted(sizes)
    assert all(sum(together) <= 10 or len(together) == 1 for together in seen)


def test_those_who_fit_have_room_at_the_same_time():
    room, together = Room(10), threading.Barrier(3)

    def hold(size):
        with room.taken(size):
            return together.wait(timeout=60)

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(hold, (5, 3, 2))) == [0, 1, 2]


@pytest.mark.parametrize("first", [9, 25], ids=["what waits", "what is larger than the room"])
def test_room_is_given_in_the_order_of_asking(waiting, first):
    """Otherwise something large would wait for ever while small things come and go."""
    room, order = Room(10), []

    def hold(size):
        with room.taken(size):
            order.append(size)

    with ThreadPoolExecutor(3) as pool:
        with room.taken(2):
            for size in (first, 1, 4):
                pool.submit(hold, size)
                assert waiting.acquire(timeout=60), "it did not wait, although something before it waits"
            assert order == []
    assert order[0] == first
    assert sorted(order[1:]) == [1, 4]


def test_what_is_larger_than_the_room_works_alone(waiting):
    room, held = Room(10), threading.Event()

    def hold():
        with room.taken(1):
            held.set()

    with ThreadPoolExecutor(1) as pool:
        with room.taken(11):
            other = pool.submit(hold)
            assert waiting.acquire(timeout=60)
            assert not held.is_set()
        other.result(timeout=60)
    assert held.is_set()


def test_room_is_free_again_after_an_error():
    room = Room(1)
    with pytest.raises(KeyError), room.taken(1):
        raise KeyError("inside")
    with room.taken(1):
        pass


def test_who_stops_waiting_leaves_the_queue(monkeypatch):
    """As after Ctrl+C."""

    class Interrupted(threading.Condition):
        def wait(self, timeout=None):
            raise KeyboardInterrupt

    monkeypatch.setattr("modeling_atri.threads_atri.Condition", Interrupted)
    room = Room(2)
    with room.taken(2):
        with pytest.raises(KeyboardInterrupt), room.taken(1):
            pass
    for _ in range(2):
        with room.taken(2):  # nobody is before it, so it need not wait
            pass


def take(room: Room) -> None:
    with room.taken(1):
        pass


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork")
def test_a_process_that_forks_has_all_the_room():
    """The threads that have or wait for the room of its parent are not there."""
    room = Room(1)
    with room.taken(1):
        process = multiprocessing.get_context("fork").Process(target=take, args=(room,))
        process.start()
        process.join(60)
        status = process.exitcode
        process.kill()
    assert status == 0
