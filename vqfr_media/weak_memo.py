"""Values of a function of things, each computed once for as long as the thing is in use."""

from collections.abc import Callable
from weakref import WeakKeyDictionary


class WeakMemo[K, V]:
    """What was computed of things; it is forgotten with the thing, so no bound is needed.

    For windows that overlap: what one has computed of a frame the next finds here, and when the
    last window has left the frame behind, this has too. Things are told apart by identity, so the
    class of the keys must not define equality. May be used by any number of threads; two that ask
    for the same at the same time may both compute it, and get the same object.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[K, V] = WeakKeyDictionary()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, thing: K, compute: Callable[[], V]) -> V:
        """Returns the value of `thing`; `compute`, which must not give None, is called if needed.

        An exception of `compute` is raised as it is, and nothing is kept.
        """
        value = self._kept.get(thing)
        if value is None:
            value = self._kept.setdefault(thing, compute())
        return value
