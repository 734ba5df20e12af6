"""How much the crops of faces tremble, by their landmarks: five alone, and held by the mesh.

usage: python -m benchmarks.crop_tremble CLIP [CLIP ...]
The mean second difference of the crop's corners, in pixels of a crop of 256, over all faces with
two neighbours; also how far the new crop's corners lie from the old one's on average.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vqfr_media.faces.affine import apply, invert
from vqfr_media.faces.align import similarity
from vqfr_media.faces.mesh_fit import NO_FIT, MeshFit, MeshFits
from vqfr_media.frames import Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import RestoreOptions, TemporalOptions
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.restoration.mesh_hold import hold_by_mesh
from vqfr_media.restoration.radii import FrameRadii
from vqfr_media.restoration.smoothing import smooth_landmarks
from vqfr_media.values import Face
from vqfr_media.windows import sliding

SIZE = 256
CORNERS = np.array([[0, 0], [SIZE - 1, 0], [0, SIZE - 1], [SIZE - 1, SIZE - 1]], float)
BANDS = ((24, 40), (40, 80), (80, 160), (160, 1000))

# What is compared: which landmarks, and over how many seconds they are smoothed. "curve" is what
# "mesh" comes to where the mesh is never believed: the five under its parabola.
RULES = (("five", 0.0), ("mesh", 0.0), ("five", 0.1), ("curve", 0.1), ("mesh", 0.1))


class NoFits(MeshFits):
    """Believes no mesh."""

    def of(self, frame: Frame, face: Face) -> MeshFit:  # noqa: ARG002
        """Returns what is said of faces that are too small."""
        return NO_FIT


Path4 = dict[int, npt.NDArray[np.float64]]


def corners(landmarks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where the crop's corners lie in the picture."""
    return apply(invert(similarity(landmarks, SIZE)), CORNERS)


def tremble(path: Path4, frame: int) -> float | None:
    """Mean second difference of the corners around a frame, in pixels of the crop."""
    if not {frame - 1, frame + 1} <= path.keys():
        return None
    side = float(np.linalg.norm(path[frame][1] - path[frame][0])) / (SIZE - 1)
    bend = path[frame - 1] - 2 * path[frame] + path[frame + 1]
    return float(np.linalg.norm(bend, axis=1).mean()) / side


def measure(clip: Path) -> None:
    """Prints the clip's lines."""
    tracks = find_tracks(clip)
    numbers = {
        appearance.face: track.id for track in tracks.tracks for appearance in track.appearances
    }
    paths: dict[tuple[str, float], dict[int, Path4]] = {rule: defaultdict(dict) for rule in RULES}
    sizes: dict[tuple[int, int], float] = {}
    trusted = []
    fits, no_fits = MeshFits(), NoFits()
    with open_video(clip) as reader:
        info = reader.info
        radius = FrameRadii.of(TemporalOptions(), info.frame_rate).align
        for window in sliding(map(tracks.frame_faces, reader), radius):
            here = window.items[window.centre]
            for rule in RULES:
                kind, seconds = rule
                smoothed = smooth_landmarks(window, radius=seconds, time_base=info.time_base)
                for index, tracked in enumerate(here.faces):
                    face = tracked.face
                    if face.size < RestoreOptions().face.min_face:
                        continue
                    held = smoothed[index]
                    if kind != "five":
                        held = hold_by_mesh(
                            window,
                            index,
                            radius=seconds,
                            time_base=info.time_base,
                            fits=fits if kind == "mesh" else no_fits,
                        )
                    sizes[numbers[face], here.frame.index] = face.size
                    paths[rule][numbers[face]][here.frame.index] = corners(held)
            trusted += [fits.of(here.frame, tracked.face).trust for tracked in here.faces]
    for low, high in (*BANDS, (0, 10_000)):
        own = [key for key, size in sizes.items() if low <= size < high]
        told = []
        for rule in RULES:
            values = [tremble(paths[rule][number], frame) for number, frame in own]
            known = [value for value in values if value is not None]
            told.append(f"{np.mean(known):5.2f}" if known else "    -")
        if own:
            print(f"{clip.name:14s} {low:4d}-{high:<5d} {len(own):5d} faces ", *told)
    print(f"{clip.name:14s} trusted in full {np.mean(np.array(trusted) > 0.99):.2f}, "
          f"not at all {np.mean(np.array(trusted) < 0.01):.2f}")  # fmt: skip


if __name__ == "__main__":
    print("                    size  faces         ", *(f"{kind}@{s:g}" for kind, s in RULES))
    for name in sys.argv[1:]:
        measure(Path(name))
