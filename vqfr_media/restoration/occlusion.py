"""What stands in front of a face, told by where the network and its input disagree grossly.

A network that draws faces from a codebook draws one over a bar, too. Detail is what it is asked
for, so only wide differences count, after the colours were matched as they are when the face is
mixed in, and only what exceeds the difference that the face has elsewhere.
"""

from fractions import Fraction

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.faces.blend import match_colour, soft_mask
from vqfr_media.faces.track import follow
from vqfr_media.restoration.likeness import Likeness
from vqfr_media.restoration.smoothing import gauss, seconds_from
from vqfr_media.values import FrameFaces, RestoredFace
from vqfr_media.weak_memo import WeakMemo
from vqfr_media.windows import Window

# Side of the small pictures that are compared.
_SIDE = 64
# Sigmas of two blurs in samples of those. By the wide one an eye and its lids are averaged out: it
# says whether anything is in front. The narrow one says where.
_WIDE, _NARROW = 3.0, 1.0
# Wide differences in luma and colour, as shares of the full range, of which nothing and all of the
# input is kept. On 46 people of whom the lite network never saw any it differs by 0.022 at most;
# its texture branch, which paints over coloured bars, by 0.037 there on average.
_NONE, _ALL = 0.02, 0.03
# The same of narrow ones, which also have to be so much of the largest.
_NARROW_NONE, _NARROW_ALL = 0.02, 0.04
_SHARE_NONE, _SHARE_ALL = 0.25, 0.5
# By so many samples more is kept around: the blur has taken the edges for less than they are.
_MARGIN = 2
# Of the face's differences, the share that is taken for usual.
_USUAL = 0.25
# Where the mask shows less than this, differences are not looked at.
_SHOWN = 0.3
# Luma and two differences of colour (BT.601).
_COLOURS = np.array(
    [[0.299, 0.587, 0.114], [-0.169, -0.331, 0.5], [0.5, -0.419, -0.081]], np.float32
)

Picture = npt.NDArray[np.float32]


class OcclusionMeter:
    """Finds what is in front of faces; compares each face once while it is in use.

    What is kept changes no bit, only the work; any number of threads may use it.
    """

    def __init__(self) -> None:
        self._kept: WeakMemo[RestoredFace, Picture] = WeakMemo()

    def measure(
        self,
        window: Window[FrameFaces[RestoredFace]],
        *,
        radius: float,
        time_base: Fraction,
        likeness: Likeness,
    ) -> list[Picture | None]:
        """Returns how much of the input is to stay, for each face of the centre frame.

        The differences are averaged over the track: by a Gaussian in time, and by how alike the
        inputs are, so that a hand that moves on leaves nothing behind.

        Args:
            window: Faces as the network gave them, around the centre.
            radius: Seconds, three sigmas of the Gaussian; 0 looks at the centre alone.
            time_base: Seconds per unit of pts.
            likeness: What compares the inputs.

        Returns:
            (64, 64) over the crop, 0 to 1; None where nothing is in front of the face.
        """
        items, centre = window.items, window.centre
        seconds = seconds_from(items, centre, time_base)
        found: list[Picture | None] = []
        for index, own in enumerate(items[centre].faces):
            total, weights = self._excess(own).copy(), np.ones((1, _SIDE, _SIDE), np.float32)
            for at, face in follow(window, index):
                if at == centre or abs(seconds[at]) > radius:
                    continue
                other = items[at].faces[face]
                alike = likeness.between(own.aligned, other.aligned)
                weight = _small(alike) * np.float32(gauss(seconds[at], radius))
                total += weight * self._excess(other)
                weights += weight
            found.append(covered(total / weights))
        return found

    def _excess(self, face: RestoredFace) -> Picture:
        return self._kept.get(face, lambda: excess(face.image, face.aligned.crop))


def excess(image: Picture, crop: Picture) -> Picture:
    """Returns by how much a face differs from its input, beyond what it differs by elsewhere.

    Args:
        image: (S, S, 3) RGB in 0 to 1, as the network gave it.
        crop: (S, S, 3) RGB: what it was given.

    Returns:
        (2, 64, 64) float32, 0 or more, as a share of the full range, by the wide and the narrow
        blur; 0 outside the mask.
    """
    given, mask = _small(crop), soft_mask(_SIDE)
    change = (match_colour(_small(image), given, mask) - given) @ _COLOURS.T
    shown = mask > _SHOWN
    amounts = []
    for sigma in (_WIDE, _NARROW):
        blurred = cv2.GaussianBlur(change, (0, 0), sigma)
        amount = np.sqrt(np.sum(blurred * blurred, axis=2))
        usual = np.quantile(amount[shown], _USUAL)
        amounts.append(np.where(shown, np.maximum(amount - usual, 0), 0))
    return np.asarray(np.stack(amounts), np.float32)


def covered(amounts: Picture) -> Picture | None:
    """Returns how much of the input stays for such differences, with soft edges around.

    Args:
        amounts: (2, 64, 64) of `excess`, or an average of several.

    Returns:
        (64, 64) float32, 0 to 1, read-only; None where nothing stays.
    """
    wide, narrow = amounts
    gross = _ramp(wide, _NONE, _ALL)
    if not gross.any():
        return None
    most = float(narrow.max())
    none, full = max(_NARROW_NONE, _SHARE_NONE * most), max(_NARROW_ALL, _SHARE_ALL * most)
    kept = cv2.dilate(gross * _ramp(narrow, none, full), np.ones((2 * _MARGIN + 1,) * 2, np.uint8))
    soft = np.asarray(cv2.GaussianBlur(kept, (0, 0), _MARGIN / 2), np.float32)
    soft.flags.writeable = False
    return soft


def _ramp(amount: Picture, none: float, full: float) -> Picture:
    return np.asarray(np.clip((amount - none) / (full - none), 0, 1), np.float32)


def _small(picture: Picture) -> Picture:
    small = cv2.resize(picture, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32)
