"""How alike the inputs of two faces are, pixel by pixel: what guards smoothing against ghosts."""

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.values import AlignedFace
from vqfr_media.weak_memo import WeakMemo

# How far two aligned inputs may differ, as a share of the full range, before one stops speaking
# for the other. Compression noise that the blur below leaves is about 0.01; a blink is above 0.1.
DIFFERENCE_SIGMA = 0.035
# Inputs are compared after a blur of this share of the crop's side: noise is averaged out, while
# an eyelid (about 0.03 of the side) still shows.
BLUR = 0.012


class Likeness:
    """Compares aligned faces; each pair is compared once while both of them are in use.

    It is the same seen from either side, so a pair serves the windows of both its frames. What is
    kept changes no bit, only the work; any number of threads may use it.
    """

    def __init__(self) -> None:
        self._guides: WeakMemo[AlignedFace, npt.NDArray[np.float32]] = WeakMemo()
        self._pairs: WeakMemo[AlignedFace, WeakMemo[AlignedFace, npt.NDArray[np.float32]]] = (
            WeakMemo()
        )

    def __len__(self) -> int:
        """Returns the faces of which something is kept."""
        return len(self._guides)

    def between(self, one: AlignedFace, other: AlignedFace) -> npt.NDArray[np.float32]:
        """Returns (S/2, S/2) weights: 1 where two inputs agree, 0 where something moved.

        Beyond three times `DIFFERENCE_SIGMA` it is 0. The array is shared and read-only.
        """
        # One order for both ways of asking; `id` is that of things alive, which this holds here.
        first, second = (one, other) if id(one) < id(other) else (other, one)
        partners = self._pairs.get(first, WeakMemo)
        return partners.get(second, lambda: self.compare(self.guide(first), self.guide(second)))

    def guide(self, aligned: AlignedFace) -> npt.NDArray[np.float32]:
        """Returns the input blurred to (S/2, S/2, 3): what two neighbours are compared by."""

        def blurred() -> npt.NDArray[np.float32]:
            size = aligned.crop.shape[0]
            half = cv2.resize(aligned.crop, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
            return np.asarray(cv2.GaussianBlur(half, (0, 0), BLUR * size / 2), dtype=np.float32)

        return self._guides.get(aligned, blurred)

    def compare(
        self, one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Returns how alike two guides are; see `between`.

        The difference is spread over its surroundings first, as far as the softening afterwards
        reaches, so that nothing leaks into what moved.
        """
        channels = cv2.split(cv2.absdiff(one, other))
        difference = cv2.max(cv2.max(channels[0], channels[1]), channels[2])
        reach = max(1, round(2 * BLUR * one.shape[0]))
        kernel = (2 * reach + 1, 2 * reach + 1)
        difference = cv2.dilate(difference, np.ones(kernel, np.uint8))
        weight = np.exp(-0.5 * (difference / DIFFERENCE_SIGMA) ** 2)
        weight[difference > 3 * DIFFERENCE_SIGMA] = 0
        similarity = np.asarray(cv2.GaussianBlur(weight, kernel, reach / 2), dtype=np.float32)
        similarity.flags.writeable = False
        return similarity
