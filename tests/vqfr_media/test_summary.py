"""What is told of a run: whether the picture is large enough for what was restored."""

from pathlib import Path

import pytest

from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import TrackRecord, useful_upscale


def tracks(*faces: tuple[float, int]) -> list[TrackRecord]:
    """Makes a track for each (enlargement, restored frames)."""
    return [
        TrackRecord(
            id=number,
            shot=0,
            first_frame=0,
            last_frame=frames - 1,
            restored=frames,
            mean_enlargement=enlargement,
        )
        for number, (enlargement, frames) in enumerate(faces)
    ]


@pytest.mark.parametrize(
    ("faces", "upscale"),
    [
        ((), 1),
        (((0.3, 5),), 1),
        (((1.74, 5),), 1),
        (((1.75, 5),), 2),
        (((3.8, 5),), 4),
        (((9.0, 5),), 4),  # no more can be asked for
        (((3.0, 5), (1.0, 4)), 3),  # what most faces need, frame by frame
        (((3.0, 4), (1.0, 5)), 1),
        (((1.0, 3), (2.1, 3), (4.0, 3)), 2),
    ],
)
def test_half_of_the_faces_show_in_full(faces: tuple[tuple[float, int], ...], upscale: int) -> None:
    assert useful_upscale(tracks(*faces)) == upscale


@pytest.mark.parametrize(("upscale", "told"), [(1, True), (2, False)])
def test_a_run_tells_how_much_larger_its_faces_were_restored(
    upscale: int, told: bool, tmp_path: Path
) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=3, discs=1)
    options = RestoreOptions(upscale=upscale, encode=EncodeOptions(codec="ffv1"))
    engine, detector = IdentityEngine(size=192), MarkerDetector()
    summary = restore_video(source, tmp_path / "out.mkv", options, engine=engine, detector=detector)
    (track,) = summary.tracks
    # A disc of 52 px is taken for a face whose template is 320 px wide in a crop of 512.
    assert track.mean_enlargement == pytest.approx(192 / 512 * 320 / 52)
    hint = "most of the restored faces have more detail than a picture of this size can show"
    assert (f"{hint}; --upscale 2 shows it" in summary.lines()) is told
