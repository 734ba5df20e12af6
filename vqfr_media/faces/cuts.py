"""Where one shot ends and another begins, by the frames' thumbnails."""

import cv2
import numpy as np
import numpy.typing as npt

from vqfr_media.values import Detected
from vqfr_media.weak_memo import WeakMemo

# What `is_cut` said, by the later frame and then the earlier one.
CutMemo = WeakMemo[Detected, WeakMemo[Detected, bool]]

# Thumbnails are compared at every shift up to these shares of their width and height: a pan of a
# tenth of the picture between two frames is no cut.
_PAN = 0.1
# Correlation below which two pictures are two shots: the first where their histograms agree, the
# second where they have nothing in common. duo_lq: two portraits framed alike 0.49, no cut 0.94.
_CUT_CORRELATION = (0.6, 0.85)
# Standard deviation, in 8-bit codes, below which a thumbnail shows noise rather than structure.
_FLAT = 3.0


def is_cut(previous: Detected, current: Detected) -> bool:
    """Returns whether a shot begins at `current`: the source says it, else the two thumbnails."""
    marked = (previous.frame.cuts[1], current.frame.cuts[0])
    if True in marked or False in marked:
        return True in marked
    return are_of_two_shots(previous.thumbnail, current.thumbnail)


def are_of_two_shots(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Returns whether two thumbnails look like pictures of two shots.

    They are compared by their structure, best over small shifts of the camera, which neither a
    flash nor a fade changes; histograms that differ make the test stricter.
    """
    if one.shape != other.shape:
        return True
    flat = (float(one.std()) < _FLAT, float(other.std()) < _FLAT)
    if all(flat):
        # Black, white or fog: noise does not correlate, so only the level can tell.
        return abs(float(one.mean()) - float(other.mean())) > 8 * _FLAT
    if any(flat):
        return True
    rows, columns = one.shape
    y, x = max(1, round(_PAN * rows)), max(1, round(_PAN * columns))
    # Half a cell of blur: a shift by a fraction of a cell is no difference.
    soft = [cv2.GaussianBlur(picture, (3, 3), 0.7) for picture in (one, other)]
    middle = soft[1][y : rows - y, x : columns - x]
    correlation = float(cv2.matchTemplate(soft[0], middle, cv2.TM_CCOEFF_NORMED).max())
    histograms = [np.bincount(p.ravel() >> 4, minlength=16) / p.size for p in (one, other)]
    difference = float(np.abs(histograms[0] - histograms[1]).sum()) / 2
    low, high = _CUT_CORRELATION
    return correlation < low + (high - low) * difference
