"""The promise itself, on a real clip: the bundled model makes the faces better and steadier."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from benchmarks.clip_quality import Figures, measure
from tests.stand_ins import RememberingDetector
from vqfr_media import weights
from vqfr_media.faces.detect import RetinaFaceDetector
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, ModelOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.summary import Summary

# By how much the restored clip must be better than the input, and the figures it was set from:
# see docs/quality.md.
PSNR_GAIN = 1.0
SSIM_GAIN = 0.02
FLICKER_SHARE = 0.92


@dataclass(frozen=True)
class Restored:
    """A clip, the same one restored with the bundled model, and both clips' figures."""

    clip: Path
    summary: Summary
    before: Figures
    after: Figures
    lengths: tuple[int, ...]
    """Frames of each shot."""


def shortened(clip: Path, folder: Path, ranges: list[range]) -> Path:
    """A clip of these frames alone, without loss, with as much of the sound as they take."""
    path = folder / clip.name
    count = sum(map(len, ranges))
    with av.open(str(clip)) as source, av.open(str(path), "w") as output:
        film: Any = output.add_stream("libx264", rate=Fraction(25), options={"qp": "0"})
        old: Any = source.streams.video[0]
        film.width, film.height, film.pix_fmt = old.width, old.height, old.pix_fmt
        sounds: Any = source.streams.audio
        sound = output.add_stream_from_template(sounds[0]) if sounds else None
        number = 0
        frames: Any = source.decode(video=0)
        for index, frame in enumerate(frames):
            if any(index in kept for kept in ranges):
                picture = frame.reformat(format=old.pix_fmt)
                picture.pts, picture.time_base = number, Fraction(1, 25)
                picture.pict_type = 0
                output.mux(film.encode(picture))
                number += 1
        output.mux(film.encode(None))
        assert number == count
        if sound is not None:
            source.seek(0)
            for packet in source.demux(sounds[0]):
                if packet.size and packet.pts * packet.time_base < Fraction(count, 25):
                    packet.stream = sound
                    output.mux(packet)
    return path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param([range(50, 60), range(60, 70), range(110, 120)], id="three times 10 frames"),
        pytest.param([], id="the whole clip", marks=pytest.mark.slow),
    ],
)
def restored(
    request: pytest.FixtureRequest, shared: Path, tmp_path_factory: pytest.TempPathFactory
) -> Restored:
    folder = tmp_path_factory.mktemp("clip")
    clip, truth = (shared / "data" / "clips" / name for name in ("duo_lq.mp4", "duo_gt.mp4"))
    if request.param:
        clip, truth = (shortened(path, folder, request.param) for path in (clip, truth))
    output = folder / "out.mp4"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.VARIABLE, str(shared / "weights"))
        mobilenet = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet")
        detector = RememberingDetector(mobilenet)
        options = RestoreOptions(
            model=ModelOptions(model="lite", device="cpu"), encode=EncodeOptions(preset="veryfast")
        )
        summary = restore_video(clip, output, options, detector=detector)
    return Restored(
        clip=clip,
        summary=summary,
        before=measure(truth, clip, detector),
        after=measure(truth, output, detector),
        lengths=tuple(map(len, request.param)) or (60, 50, 50),
    )


def test_faces_are_nearer_the_truth(restored: Restored) -> None:
    before, after = restored.before, restored.after
    assert after.psnr >= before.psnr + PSNR_GAIN
    assert after.ssim >= before.ssim + SSIM_GAIN
    assert before.sharpness < after.sharpness < 1.1
    assert after.landmark_distance < before.landmark_distance
    assert after.lost <= before.lost


def test_faces_are_steadier(restored: Restored) -> None:
    before, after = restored.before, restored.after
    assert after.flicker <= FLICKER_SHARE * before.flicker
    assert after.landmark_jitter < before.landmark_jitter


def test_every_face_of_every_shot_is_followed(restored: Restored) -> None:
    summary = restored.summary
    first, second, third = restored.lengths
    assert summary.frames == first + second + third
    assert summary.shots == (0, first, first + second)
    assert [(t.shot, t.first_frame, t.last_frame) for t in summary.tracks] == [
        (0, 0, first - 1),
        (1, first, first + second - 1),
        (2, first + second, first + second + third - 1),
        (2, first + second, first + second + third - 1),
    ]
    assert summary.skipped == {}


def test_times_and_sound_are_the_sources(restored: Restored) -> None:
    output = restored.summary.output
    with open_video(restored.clip) as before, open_video(output) as after:
        assert after.info.time_base == before.info.time_base
        assert [f.pts for f in after] == [f.pts for f in before]
    packets = []
    for path in (restored.clip, output):
        with av.open(str(path)) as container:
            packets.append([(p.pts, p.dts, bytes(p)) for p in container.demux(audio=0) if p.size])
    assert packets[0]
    assert packets[0] == packets[1]
