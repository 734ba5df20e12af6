"""Settings that a process has once, changed for as long as somebody needs them to be."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from threading import Lock


class SharedSettings:
    """Changed by whoever comes first and put back by whoever goes last, in any threads."""

    def __init__(self, changed: Callable[[], AbstractContextManager[None]]) -> None:
        """Takes what changes the settings and puts them back on leaving."""
        self._changed = changed
        self._lock = Lock()
        self._inside = 0
        self._before = ExitStack()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps them changed while this lasts."""
        with self._lock:
            if self._inside == 0:
                self._before.enter_context(self._changed())
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._before.close()
