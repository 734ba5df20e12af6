"""The promise itself, on a real clip: the bundled model makes the faces better and steadier."""

import hashlib
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.clip_quality import Figures, measure
from vqfr_media import weights
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary
from vqfr_media.values import Face

# By how much the restored clip must be better than the input, and the figures it was set from:
# see docs/quality.md.
PSNR_GAIN = 1.0
SSIM_GAIN = 0.02
FLICKER_SHARE = 0.92


def remembering(detector: Detector) -> Detector:
    """The same detector, which searches only once a picture that it has seen before."""
    found: dict[bytes, list[Face]] = {}

    def search(image: npt.NDArray[np.uint8]) -> list[Face]:
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in found:
            found[key] = detector(image)
        return found[key]

    return search


@pytest.fixture(scope="module")
def restored(
    shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Summary, Figures, Figures]:
    """The clip restored with the bundled model, and both clips' figures against the truth."""
    clips = shared / "data" / "clips"
    output = tmp_path_factory.mktemp("clip") / "out.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.VARIABLE, str(shared / "weights"))
        detector = remembering(RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet"))
        options = RestoreOptions(
            model=ModelOptions(model="lite", device="cpu"), encode=EncodeOptions(preset="veryfast")
        )
        summary = restore_video(clips / "duo_lq.mp4", output, options)
    truth = clips / "duo_gt.mp4"
    return (
        summary,
        measure(truth, clips / "duo_lq.mp4", detector),
        measure(truth, output, detector),
    )


def test_faces_are_nearer_the_truth(restored: tuple[Summary, Figures, Figures]) -> None:
    _, before, after = restored
    assert after.psnr >= before.psnr + PSNR_GAIN
    assert after.ssim >= before.ssim + SSIM_GAIN
    assert before.sharpness < after.sharpness < 1.1
    assert after.landmark_distance < before.landmark_distance
    assert after.lost <= before.lost


def test_faces_are_steadier(restored: tuple[Summary, Figures, Figures]) -> None:
    _, before, after = restored
    assert after.flicker <= FLICKER_SHARE * before.flicker
    assert after.landmark_jitter < before.landmark_jitter


def test_every_face_of_every_shot_is_followed(
    restored: tuple[Summary, Figures, Figures],
) -> None:
    summary, _, _ = restored
    assert summary.frames == 160
    assert summary.shots == (0, 60, 110)
    assert [(t.shot, t.first_frame, t.last_frame) for t in summary.tracks] == [
        (0, 0, 59),
        (1, 60, 109),
        (2, 110, 159),
        (2, 110, 159),
    ]
    assert summary.skipped == {}


def test_times_and_sound_are_the_sources(
    shared: Path, restored: tuple[Summary, Figures, Figures]
) -> None:
    summary, _, _ = restored
    source = shared / "data" / "clips" / "duo_lq.mp4"
    with open_video(source) as before, open_video(summary.output) as after:
        assert after.info.time_base == before.info.time_base
        assert [f.pts for f in after] == [f.pts for f in before]
    packets = []
    for path in (source, summary.output):
        with av.open(str(path)) as container:
            packets.append([(p.pts, p.dts, bytes(p)) for p in container.demux(audio=0)])
    assert packets[0] == packets[1]
