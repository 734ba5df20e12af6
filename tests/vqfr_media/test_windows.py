"""Streaming and random access give the same windows; threads end whatever happens."""

import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from vqfr_media.windows import Window, in_batches, prefetch, sliding, window_at


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_streamed_windows_equal_windows_by_random_access(count: int, radius: int) -> None:
    items = [f"item {i}" for i in range(count)]
    streamed = list(sliding(iter(items), radius))
    assert streamed == [window_at(items.__getitem__, i, radius, count) for i in range(count)]
    for index, window in enumerate(streamed):
        assert window.items[window.centre] == items[index]
        assert window.items == tuple(items[max(0, index - radius) : index + radius + 1])


def test_sliding_takes_no_more_than_it_needs() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for i in range(100):
            taken.append(i)
            yield i

    windows = sliding(items(), 3)
    next(windows)
    assert taken == [0, 1, 2, 3]
    next(windows)
    assert taken == [0, 1, 2, 3, 4]


def test_bad_windows_are_refused() -> None:
    with pytest.raises(ValueError, match="radius"):
        next(sliding([1], -1))
    with pytest.raises(IndexError, match="item 3 of 3"):
        window_at([1, 2, 3].__getitem__, 3, 1, 3)
    with pytest.raises(ValueError, match="centre"):
        Window((1, 2), 2)


def test_batches_follow_sizes_and_keep_order() -> None:
    calls: list[list[int]] = []

    def work(run: Sequence[int]) -> list[int]:
        calls.append(list(run))
        return [10 * i for i in run]

    sizes = [1, 0, 2, 0, 0, 1, 0, 0, 0, 3, 1]
    result = list(in_batches(sizes, work, size_of=int, batch_size=3, max_items=4))
    assert result == [10 * i for i in sizes]
    assert calls == [[1, 0, 2], [0], [0], [1, 0, 0, 0], [3], [1]]


def _threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name == "vqfr-prefetch"}


def test_prefetch_keeps_order_and_stays_within_its_depth() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    with prefetch(items(), 3) as ahead:
        for expected in range(50):
            assert next(ahead) == expected
            time.sleep(0.001)
            # Three wait in the queue and one more is held by the thread.
            assert len(made) <= expected + 1 + 3 + 1
        with pytest.raises(StopIteration):
            next(ahead)
    assert not _threads()


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("failing", [0, 1, 17])
def test_an_error_in_the_source_is_raised_as_itself(failing: int, depth: int) -> None:
    error = OSError("bad sector")

    def items() -> Iterator[int]:
        for i in range(100):
            if i == failing:
                raise error
            yield i

    received: list[int] = []
    with pytest.raises(OSError, match="bad sector") as caught, prefetch(items(), depth) as ahead:
        received.extend(ahead)
    assert caught.value is error
    assert received == list(range(failing))  # everything before it arrived first
    assert not _threads()


def test_a_consumer_that_leaves_early_stops_an_endless_source_and_closes_it() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            i = 0
            while True:
                yield (i := i + 1)
        finally:
            closed.set()

    with prefetch(endless(), 2) as ahead:
        assert next(ahead) == 1
    assert closed.is_set()
    assert not _threads()


def test_a_failing_consumer_is_not_masked_when_nested() -> None:
    def endless() -> Iterator[int]:
        while True:
            yield 1

    def consume() -> None:
        with (
            prefetch(endless(), 2) as inner,
            prefetch((2 * i for i in inner), 2) as outer,
        ):
            next(outer)
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        consume()
    assert not _threads()


def test_an_interruption_while_the_thread_is_being_started_leaves_none_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As Ctrl-C did: the thread ran on, in the decoder, until it tore the process down at exit."""
    closed = threading.Event()
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        start(thread)
        raise KeyboardInterrupt

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
                time.sleep(0.001)
        finally:
            closed.set()

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), prefetch(endless(), 2):
        pass
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "vqfr-prefetch"]


def test_leaving_one_of_a_chain_stops_who_waits_for_another() -> None:
    """The second thread waits for the first, which goes on only when that has ended."""
    release = threading.Event()
    told: list[bool] = []

    def slow() -> Iterator[int]:
        yield 0
        told.append(release.wait(30))

    def doubled(items: Iterator[int]) -> Iterator[int]:
        try:
            for item in items:
                yield 2 * item
        finally:
            release.set()

    chain = threading.Event()
    with (
        prefetch(slow(), 2, chain=chain) as inner,
        prefetch(doubled(inner), 2, chain=chain) as outer,
    ):
        assert next(outer) == 0
    assert told == [True]
    assert not _threads()


def test_what_is_left_in_its_own_thread_ends_all_the_same() -> None:
    """As the garbage collector may, which runs in whatever thread."""
    done = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        done.wait(10)
        context.__exit__(None, None, None)

    context = prefetch(items(), 2)
    ahead = context.__enter__()
    assert next(ahead) == 1
    thread = next(one for one in threading.enumerate() if one.name == "vqfr-prefetch")
    done.set()
    thread.join(10)
    assert not _threads()
