"""Landmarks that are held by the face's mesh: what is quick from the mesh, what is slow from five.

The detector's five landmarks say on average where a face lies as the networks know it from their
training, but they tremble. The mesh's many points tremble less, but where a face looks down or
aside a fit to them lies elsewhere. So their difference is averaged over a long window, and the
motion is the mesh's (a complementary filter). Both are smoothed by a parabola, which follows a nod
better than the line of `smooth_landmarks`, so that its window may be longer.
"""

from fractions import Fraction

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import apply, invert
from vqfr_media.faces.align import similarity, template
from vqfr_media.faces.mesh_fit import MeshFits
from vqfr_media.faces.track import follow
from vqfr_media.restoration.radii import MESH_RADIUS, motion_radius
from vqfr_media.restoration.smoothing import gauss, line_now, parabola_now, seconds_from
from vqfr_media.values import FrameFaces, TrackedFace
from vqfr_media.windows import Window

# Side of the template in which the mesh and the five landmarks are compared.
_SIZE = 512
# Share below which the mesh has no say: there it is known from hardly anything.
_LEAST = 1e-6
# Seconds that are no difference: a frame at the very end of a radius counts.
_ROUNDING = 1e-6


def hold_by_mesh(
    window: Window[FrameFaces[TrackedFace]],
    face: int,
    *,
    radius: float,
    time_base: Fraction,
    fits: MeshFits,
) -> npt.NDArray[np.float64]:
    """Returns the landmarks by which to align a face of the centre frame.

    Where the mesh is not to be believed in some of the frames, it counts for less in all that are
    near, and the smoothed five landmarks for more, so that nothing jumps.

    Args:
        window: Frames around the centre, `MESH_RADIUS` and `motion_radius` to each side.
        face: Which face of the centre frame.
        radius: The option `landmarks_radius`; 0 takes the mesh's motion as it is.
        time_base: Seconds per unit of pts.
        fits: Finds the mesh.

    Returns:
        (5, 2) display coordinates.

    Raises:
        BackendError: OpenVINO is not here.
        WeightsError: the mesh's file is damaged.
    """
    items, centre = window.items, window.centre
    seconds = seconds_from(items, centre, time_base)
    moving = motion_radius(radius)
    reach = max(moving, MESH_RADIUS) + _ROUNDING
    chain = [(at, position) for at, position in follow(window, face) if abs(seconds[at]) <= reach]
    if len(chain) < 2:
        return items[centre].faces[face].face.landmarks
    times = np.array([seconds[at] for at, _ in chain])
    faces = [items[at].faces[position].face for at, position in chain]
    found = [fits.of(items[at].frame, one) for (at, _), one in zip(chain, faces, strict=True)]
    trust = np.array([fit.trust for fit in found])
    slow, quick = (_weights(times, each) for each in (MESH_RADIUS, moving))
    five = np.stack([one.landmarks for one in faces])
    smoothed = parabola_now(times, five, quick)
    known = float(quick @ trust)
    share = known * float(slow @ trust)
    if share < _LEAST:
        return smoothed
    # Where the mesh puts the template, and where the detector's landmarks lie in that.
    believed = trust > 0
    placed = np.stack(
        [
            apply(invert(fit.matrix), template(_SIZE)) if use else smoothed
            for fit, use in zip(found, believed, strict=True)
        ]
    )
    seen = np.stack([apply(fit.matrix, own) for fit, own in zip(found, five, strict=True)])
    straight, curved = (rule(times, placed, quick * trust) for rule in (line_now, parabola_now))
    # A curve is not drawn on into frames in which the mesh is not believed.
    steady = similarity(straight + known * (curved - straight), _SIZE)
    usual = np.tensordot(slow * trust / (slow @ trust), seen, 1)
    return (1 - share) * smoothed + share * apply(invert(steady), usual)


def _weights(times: npt.NDArray[np.float64], radius: float) -> npt.NDArray[np.float64]:
    """Gaussian weights that add up to 1; with radius 0 the time 0 alone counts."""
    if radius <= 0:
        return np.asarray(times == 0, np.float64)
    weights = np.array([gauss(t, radius) if abs(t) <= radius + _ROUNDING else 0.0 for t in times])
    return np.asarray(weights / weights.sum(), np.float64)
