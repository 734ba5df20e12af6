"""Bounded streaming: read ahead in a thread, look around in a window, work in batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread, current_thread

# Frames that a reader or a worker may be ahead of who comes next. More would only cost memory.
READ_AHEAD = 4

# A thread that has not started after so long never will.
_START_SECONDS = 5.0

# A thread that waits for another looks so often whether it is to stop.
_LOOK_SECONDS = 0.05

_END = object()


@dataclass(frozen=True)
class Window[T]:
    """An item with its neighbours; shorter at the ends of the sequence."""

    items: tuple[T, ...]
    """Up to `2 * radius + 1` consecutive items."""
    centre: int
    """Position in `items` of the item that the window is about."""

    def __post_init__(self) -> None:
        if not 0 <= self.centre < len(self.items):
            raise ValueError(f"{self.centre = } is outside of {len(self.items)} items")


def widened(numbers: range, radius: int, count: int) -> range:
    """Returns `numbers` and `radius` more to each side, as far as there are any of `count`."""
    return range(max(0, numbers.start - radius), min(count, numbers.stop + radius))


def sliding[T](items: Iterable[T], radius: int) -> Iterator[Window[T]]:
    """Yields one window for each item, in order; holds at most `2 * radius + 1` items.

    Raises:
        ValueError: `radius` is negative.
    """
    if radius < 0:
        raise ValueError(f"radius must not be negative, got {radius}")
    held: deque[T] = deque()
    centre = 0

    def step() -> Window[T]:
        nonlocal centre
        window = Window(tuple(held), centre)
        if centre == radius:
            held.popleft()
        else:
            centre += 1
        return window

    for item in items:
        held.append(item)
        if len(held) > centre + radius:
            yield step()
    while centre < len(held):
        yield step()


def window_at[T](get: Callable[[int], T], index: int, radius: int, count: int) -> Window[T]:
    """Returns the window that `sliding` yields for item `index` of `count`, by random access.

    Raises:
        IndexError: there is no such item.
    """
    if not 0 <= index < count:
        raise IndexError(f"item {index} of {count}")
    first, last = max(0, index - radius), min(count - 1, index + radius)
    return Window(tuple(get(i) for i in range(first, last + 1)), index - first)


def in_batches[T, R](
    items: Iterable[T],
    work: Callable[[Sequence[T]], Sequence[R]],
    *,
    size_of: Callable[[T], int],
    batch_size: int,
    max_items: int = 32,
) -> Iterator[R]:
    """Applies `work` to runs of consecutive items whose sizes add up to at least `batch_size`.

    A run also ends after `max_items`, and an empty item that begins one is passed on at once, so
    that little is held where there is nothing to do.
    """
    run: list[T] = []
    total = 0
    for item in items:
        run.append(item)
        total += size_of(item)
        if total >= batch_size or total == 0 or len(run) >= max_items:
            yield from work(run)
            run, total = [], 0
    if run:
        yield from work(run)


class _StoppedError(BaseException):
    """Ends a thread of a chain that is being left; nobody but that thread sees it."""


@contextmanager
def prefetch[T](
    items: Iterable[T], depth: int, *, chain: Event | None = None
) -> Iterator[Iterator[T]]:
    """Yields an iterator over `items` that a thread keeps at most `depth` items ahead.

    An exception in `items` is raised from the consumer's `next()`, after the items before it.
    Leaving the `with` block stops the thread and joins it, whatever state the consumer is in; a
    generator given as `items` is then closed in that thread, so that its own `finally` blocks have
    run on return.

    Args:
        items: What the thread takes one after the other.
        depth: At least 1.
        chain: Given to each of several that consume one another: who leaves one of them stops all,
            so that none goes on working for, or waits for, one that has ended.
    """
    buffer: Queue[object] = Queue(maxsize=depth)
    began, stop = Event(), Event() if chain is None else chain
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                buffer.put(item, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return True
        return False

    def produce() -> None:
        began.set()
        try:
            for item in items:
                if not put(item):
                    break
        except BaseException as error:  # handed to the consumer, never swallowed
            failure.append(error)
        finally:
            try:
                close = getattr(items, "close", None)
                if close is not None:
                    close()
            except BaseException as error:
                failure.append(error)
            put(_END)

    def get() -> object:
        while not stop.is_set():
            try:
                return buffer.get(timeout=_LOOK_SECONDS)
            except Empty:
                continue
        raise _StoppedError

    def consume() -> Iterator[T]:
        while (item := get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]

    thread = Thread(target=produce, name="vqfr-prefetch", daemon=True)
    try:
        thread.start()
        yield consume()
    finally:
        stop.set()
        # Ctrl-C may come while it is being started: then it is there in a moment, or never.
        # One that is left to the garbage collector may be collected in its own thread.
        if began.wait(_START_SECONDS) and thread is not current_thread():
            thread.join()
