"""What several threads use together: values computed once, and resources lent to one at a time."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from queue import LifoQueue
from threading import Lock

import numpy as np
import numpy.typing as npt
from torch import Tensor

from vqfr_media.engine import Engine
from vqfr_media.faces.detect import Detector
from vqfr_media.faces.search import NearDetector
from vqfr_media.values import Face


class Memo[T]:
    """The last values of a function of a number, each computed by whoever asks first.

    Others who ask meanwhile wait for it. An exception is raised to all of them and not kept: the
    next one computes again.
    """

    def __init__(self, capacity: int) -> None:
        """Keeps the `capacity` values that were asked for last.

        Raises:
            ValueError: capacity is less than 1.
        """
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity}")
        self.capacity = capacity
        self._lock = Lock()
        self._kept: OrderedDict[int, Future[T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, index: int, compute: Callable[[], T]) -> T:
        """Returns the value of number `index`; `compute` is called where it is not here."""
        with self._lock:
            future = self._kept.get(index)
            ours = future is None
            if future is None:
                future = self._kept[index] = Future()
                if len(self._kept) > self.capacity:
                    # One that is still being computed lives on with those who wait for it.
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(index)
        try:
            if not ours:
                return future.result()
            try:
                value = compute()
            except BaseException as error:
                with self._lock:
                    if self._kept.get(index) is future:
                        del self._kept[index]
                future.set_exception(error)
                raise
            future.set_result(value)
            return value
        finally:
            # The error's traceback holds this call, and with it whole frames: no cycle, please.
            del future


class ResourcePool[T]:
    """Things that serve one thread at a time, lent out; who finds none free waits."""

    def __init__(self, resources: Sequence[T]) -> None:
        # Last in, first out: what was used last is warm.
        self._free: LifoQueue[T] = LifoQueue()
        for resource in resources:
            self._free.put(resource)

    @contextmanager
    def borrow(self) -> Iterator[T]:
        """Yields one of them, which nobody else has meanwhile."""
        resource = self._free.get()
        try:
            yield resource
        finally:
            self._free.put(resource)


class SharedEngine:
    """Several equal engines as one that any number of threads may use; see `engine.Engine`."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Takes possession of `engines`, at least one, which must give the same bits."""
        self.spec = engines[0].spec
        self._pool = ResourcePool(engines)

    def encode(self, crops: Tensor) -> Tensor:
        """See `Engine.encode`."""
        with self._pool.borrow() as engine:
            return engine.encode(crops)

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        """See `Engine.decode`."""
        with self._pool.borrow() as engine:
            return engine.decode(crops, latents, fidelity=fidelity)


class SharedDetector[D: Detector]:
    """Several equal detectors as one that any number of threads may use."""

    def __init__(self, detectors: Sequence[D]) -> None:
        """Takes possession of `detectors`, at least one, which must find the same faces."""
        self._pool = ResourcePool(detectors)

    def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
        """See `faces.detect.Detector`."""
        with self._pool.borrow() as detector:
            return detector(image)


class SharedNearDetector(SharedDetector[NearDetector]):
    """The same of detectors that find known faces again."""

    def near(self, image: npt.NDArray[np.uint8], known: Sequence[Face]) -> list[Face]:
        """See `faces.search.NearDetector`."""
        with self._pool.borrow() as detector:
            return detector.near(image, known)


def shared_detector(detectors: Sequence[Detector]) -> Detector:
    """Returns equal detectors as one, which finds known faces again if they do."""
    near = [detector for detector in detectors if isinstance(detector, NearDetector)]
    return SharedNearDetector(near) if len(near) == len(detectors) else SharedDetector(detectors)
