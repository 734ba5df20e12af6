"""The stages of a restoration for whoever asks for frames in any order, from any thread.

The same methods of `Restorer` as in `stream.py`, so the same bits. Every stage keeps what it gave
last by frame number, so that playing on, in either direction, computes each frame's share once.
"""

from collections.abc import Callable

from vqfr_media.faces.search import Unsearched
from vqfr_media.frames import Frame
from vqfr_media.restoration.concurrency import Memo
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import Detected, EncodedFace, FrameFaces, RestoredFace, TrackedFace
from vqfr_media.windows import window_at

# Gives a frame of the source by its index, within `RandomAccess.radius` of the one asked for.
Source = Callable[[int], Frame]


class RandomAccess:
    """One restoration by frame number. A stage waits only for earlier stages, so nothing deadlocks.

    Args of the constructor:
        restorer: Its engine and detector must be for any number of threads (`concurrency.py`).
        count: Frames of the source.
        requests: Frames that may be asked for at the same time.
    """

    def __init__(self, restorer: Restorer, count: int, *, requests: int) -> None:
        self.restorer = restorer
        self.count = count
        # An engine always runs `batch_size` faces, so a frame's faces alone would waste most of it.
        # Blocks of so many frames are restored together; which ones depends on the number alone.
        self.block = restorer.engine.spec.batch_size
        # What is kept is what the next stage's window spans, and room for those who run ahead.
        room = 2 * (requests + self.block)

        radii = restorer.radii

        def spanning(radius: int) -> int:
            return 2 * radius + 1 + room

        self.searched: Memo[Detected | Unsearched] = Memo(spanning(radii.detect))
        self.detected: Memo[Detected] = Memo(spanning(radii.track))
        self.tracked: Memo[FrameFaces[TrackedFace]] = Memo(spanning(radii.choose))
        self.chosen: Memo[FrameFaces[TrackedFace]] = Memo(spanning(radii.align))
        blocks = spanning(max(radii.latents, radii.pixels)) // self.block + 2
        self.encoded: Memo[list[FrameFaces[EncodedFace]]] = Memo(blocks)
        self.decoded: Memo[list[FrameFaces[RestoredFace]]] = Memo(blocks)

    @property
    def radius(self) -> int:
        """Frames to each side of a frame that its result depends on."""
        radii = self.restorer.radii
        # A block reaches further than the frame for which it is computed.
        return radii.total + (2 if radii.latents else 1) * (self.block - 1)

    @property
    def kept(self) -> int:
        """Values that all stages keep together at present."""
        memos = (
            self.searched,
            self.detected,
            self.tracked,
            self.chosen,
            self.encoded,
            self.decoded,
        )
        return sum(len(memo) for memo in memos)

    def frame_faces(self, index: int, source: Source) -> FrameFaces[RestoredFace]:
        """Returns frame number `index` with its restored and smoothed faces, not yet mixed in."""
        return _Request(self, source).frame_faces(index)


class _RequestMemo[T]:
    """A memo as one request sees it: what it was given it keeps, whatever others push out."""

    def __init__(self, memo: Memo[T]) -> None:
        self._memo = memo
        self._here: dict[int, T] = {}

    def get(self, index: int, compute: Callable[[], T]) -> T:
        """See `Memo.get`."""
        if index not in self._here:
            self._here[index] = self._memo.get(index, compute)
        return self._here[index]


class _Request:
    """The way to one frame, stage by stage, each through the memo of that stage.

    Windows lie within windows: without `_RequestMemo`, requests far apart could push out each
    other's detections between two neighbours of one window, and each would be made a hundred times.
    """

    def __init__(self, access: RandomAccess, source: Source) -> None:
        self._work, self._source = access.restorer, source
        self._radii = access.restorer.radii
        self._count, self._block = access.count, access.block
        self._searched = _RequestMemo(access.searched)
        self._detected = _RequestMemo(access.detected)
        self._tracked = _RequestMemo(access.tracked)
        self._chosen = _RequestMemo(access.chosen)
        self._encoded = _RequestMemo(access.encoded)
        self._decoded = _RequestMemo(access.decoded)

    def frame_faces(self, index: int) -> FrameFaces[RestoredFace]:
        """See `RandomAccess.frame_faces`."""
        work = self._work
        return work.smooth_pixels(window_at(self._decode, index, self._radii.pixels, self._count))

    def _search(self, index: int) -> Detected | Unsearched:
        return self._searched.get(index, lambda: self._work.search(self._source(index)))

    def _detect(self, index: int) -> Detected:
        work = self._work
        return self._detected.get(
            index,
            lambda: work.detect(window_at(self._search, index, self._radii.detect, self._count)),
        )

    def _track(self, index: int) -> FrameFaces[TrackedFace]:
        work = self._work

        def compute() -> FrameFaces[TrackedFace]:
            if work.tracks is not None:
                return work.tracks.frame_faces(self._source(index))
            return work.track(window_at(self._detect, index, self._radii.track, self._count))

        return self._tracked.get(index, compute)

    def _choose(self, index: int) -> FrameFaces[TrackedFace]:
        work = self._work
        return self._chosen.get(
            index,
            lambda: work.choose(window_at(self._track, index, self._radii.choose, self._count)),
        )

    def _encode(self, index: int) -> FrameFaces[EncodedFace]:
        work, block = self._work, index // self._block

        def compute() -> list[FrameFaces[EncodedFace]]:
            windows = (
                window_at(self._choose, i, self._radii.align, self._count)
                for i in self._frames_of(block)
            )
            return work.encode([work.align(window) for window in windows])

        return self._encoded.get(block, compute)[index % self._block]

    def _decode(self, index: int) -> FrameFaces[RestoredFace]:
        work, block = self._work, index // self._block

        def compute() -> list[FrameFaces[RestoredFace]]:
            windows = (
                window_at(self._encode, i, self._radii.latents, self._count)
                for i in self._frames_of(block)
            )
            return work.decode([work.smooth_latents(window) for window in windows])

        return self._decoded.get(block, compute)[index % self._block]

    def _frames_of(self, block: int) -> range:
        return range(block * self._block, min((block + 1) * self._block, self._count))
