"""What several threads share: computed once, bounded, and failures are everybody's."""

import gc
import random
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tests.scenes import scene
from tests.stand_ins import IdentityEngine, MarkerDetector, NearMarkerDetector
from vqfr_media.errors import EngineError
from vqfr_media.faces.search import NearDetector
from vqfr_media.restoration.concurrency import (
    Memo,
    SharedDetector,
    SharedEngine,
    shared_detector,
)
from vqfr_media.values import Face


def test_concurrent_requests_compute_once() -> None:
    memo: Memo[int] = Memo(8)
    computed: list[int] = []
    together = threading.Barrier(8)

    def compute(index: int) -> int:
        computed.append(index)
        threading.Event().wait(0.02)
        return index * index

    def ask(_: int) -> list[int]:
        together.wait()
        return [memo.get(i, lambda i=i: compute(i)) for i in (3, 1, 2)]  # type: ignore[misc]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[9, 1, 4]] * 8
    assert sorted(computed) == [1, 2, 3]


def test_only_what_was_asked_for_last_is_kept() -> None:
    memo: Memo[int] = Memo(3)
    computed: list[int] = []

    def compute(index: int) -> int:
        computed.append(index)
        return index

    def ask(index: int) -> None:
        memo.get(index, lambda: compute(index))

    for index in (0, 1, 2, 0, 3, 0, 1):
        ask(index)
    assert computed == [0, 1, 2, 3, 1]
    assert len(memo) == 3
    order = random.Random(0)
    for _ in range(1000):
        ask(order.randrange(50))
    assert len(memo) == 3
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        Memo(0)


def test_a_failure_is_raised_to_everyone_and_not_kept() -> None:
    memo: Memo[int] = Memo(4)
    started, go_on = threading.Event(), threading.Event()

    def fail() -> int:
        started.set()
        go_on.wait(5)
        raise EngineError("out of memory")

    def ask() -> int:
        return memo.get(7, fail)

    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(ask)]
        started.wait(5)
        futures += [pool.submit(ask) for _ in range(2)]
        threading.Event().wait(0.05)
        go_on.set()
        for future in futures:
            with pytest.raises(EngineError, match="out of memory"):
                future.result()
    assert len(memo) == 0
    assert memo.get(7, lambda: 49) == 49


def test_a_failure_keeps_nothing_alive() -> None:
    class Large:
        """Something that a failed computation had in its hands."""

    memo: Memo[int] = Memo(4)

    seen: list[weakref.ref[Large]] = []

    def fail() -> int:
        large = Large()
        seen.append(weakref.ref(large))
        raise EngineError("out of memory")

    gc.disable()
    try:
        with pytest.raises(EngineError) as caught:
            memo.get(1, fail)
        caught.value.__traceback__ = None
        del caught
        assert [ref() for ref in seen] == [None]
    finally:
        gc.enable()


class Alone(IdentityEngine):
    """Notices when two threads are in it."""

    def __init__(self) -> None:
        super().__init__(batch_size=1)
        self.busy = threading.Lock()

    def encode(self, crops: Tensor) -> Tensor:
        assert self.busy.acquire(blocking=False), "two threads in one engine"
        threading.Event().wait(0.002)
        try:
            return super().encode(crops)
        finally:
            self.busy.release()

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        self.encode(crops)
        return super().decode(crops, latents, fidelity=fidelity)


def test_an_engine_serves_one_thread_at_a_time() -> None:
    engines = [Alone(), Alone()]
    shared = SharedEngine(engines)
    assert shared.spec == engines[0].spec
    crops = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))

    def work(_: int) -> Tensor:
        return shared.decode(crops, shared.encode(crops), fidelity=0.5)

    with ThreadPoolExecutor(6) as pool:
        for result in pool.map(work, range(24)):
            assert torch.equal(result, crops)
    assert all(engine.encoded > 0 for engine in engines)
    assert sum(engine.encoded for engine in engines) == 48


def test_a_detector_is_given_back_after_a_failure() -> None:
    class Fails(MarkerDetector):
        """Always fails."""

        def __call__(self, image: npt.NDArray[np.uint8]) -> list[Face]:
            raise EngineError(f"no {image.shape}")

    shared = SharedDetector([Fails()])
    for _ in range(2):  # a second call would wait for ever
        with pytest.raises(EngineError):
            shared(np.zeros((8, 8, 3), np.uint8))


def test_detectors_look_near_known_faces_together_if_all_of_them_do() -> None:
    picture = scene(3)
    shared = shared_detector([NearMarkerDetector(), NearMarkerDetector()])
    assert isinstance(shared, NearDetector)
    (known,) = shared(picture)
    (near,) = shared.near(picture, [known])
    np.testing.assert_array_equal(near.box, known.box + 0.25)
    assert not isinstance(shared_detector([NearMarkerDetector(), MarkerDetector()]), NearDetector)
