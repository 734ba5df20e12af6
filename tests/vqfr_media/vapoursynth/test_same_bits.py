"""The filter's planes are those of the command, whatever the order, the threads and the format."""

import random
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs

from tests import portrait
from tests.stand_ins import (
    IdentityEngine,
    InvertingEngine,
    MarkerDetector,
    NearMarkerDetector,
    RememberingDetector,
)
from vqfr_media import weights
from vqfr_media.engine import Engine, load_engine
from vqfr_media.faces.blend import masks
from vqfr_media.faces.detect import Detector, RetinaFaceDetector
from vqfr_media.frames import Frame, Plane
from vqfr_media.media.read import open_video
from vqfr_media.options import BlendOptions, ModelOptions, RestoreOptions, TemporalOptions
from vqfr_media.pipeline import restore_frames
from vqfr_media.restoration.restore import Restorer
from vqfr_media.vapoursynth import vqfr
from vqfr_media.vapoursynth.frames import FrameTiming, to_frame

ALL_RULES: dict[str, Any] = {
    "landmarks_radius": 0.12,
    "latent_radius": 0.08,
    "pixel_radius": 0.12,
    "max_gap": 0.08,
}
RATE = Fraction(25)
TIMING = FrameTiming(time_base=1 / RATE, frame_rate=RATE, variable=False)


def planes_of(frame: Any) -> list[Plane]:
    """Planes in this package's order, as VapourSynth has them (half floats too)."""
    order = (1, 2, 0) if frame.format.color_family == vs.RGB else range(frame.format.num_planes)
    return [np.asarray(frame[number]) for number in order]


def frames_of(clip: Any) -> list[Frame]:
    return [to_frame(frame, index, TIMING) for index, frame in enumerate(clip.frames())]


def streamed(
    frames: Iterable[Frame],
    engine: Engine,
    detector: Detector,
    options: RestoreOptions | None = None,
    time_base: Fraction = 1 / RATE,
) -> list[Frame]:
    restorer = Restorer(engine, detector, options or RestoreOptions(), time_base, RATE)
    return [frame for frame, _ in restore_frames(frames, restorer)]


def assert_same(clip: Any, expected: Sequence[Frame], order: Iterable[int]) -> None:
    for index in order:
        with clip.get_frame(index) as frame:
            pairs = zip(planes_of(frame), expected[index].planes, strict=True)
            for number, (plane, wanted) in enumerate(pairs):
                np.testing.assert_array_equal(plane, wanted, f"frame {index}, plane {number}")


@pytest.fixture(scope="module")
def detector(shared: Path) -> RememberingDetector:
    """Of faces; each picture of the clip is searched once for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(weights.VARIABLE, str(shared / "weights"))
        found = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet")
    return RememberingDetector(found)


@pytest.fixture(scope="module")
def restored(shared: Path, detector: Detector) -> list[Frame]:
    """What the command hands to the encoder for duo_lq.mp4."""
    with open_video(shared / "data/clips/duo_lq.mp4") as reader:
        assert reader.info.frame_rate == RATE
        engine = InvertingEngine(batch_size=1)
        return streamed(reader, engine, detector, time_base=reader.info.time_base)


def test_the_source_decodes_as_ours_does(duo: Any, shared: Path) -> None:
    with open_video(shared / "data/clips/duo_lq.mp4") as reader:
        for ours, theirs in zip(reader, frames_of(duo), strict=True):
            assert ours.format == theirs.format
            for plane, other in zip(ours.planes, theirs.planes, strict=True):
                np.testing.assert_array_equal(plane, other)


@pytest.mark.parametrize(("num_threads", "num_streams"), [(1, 1), (4, 4)])
def test_forward_each_face_goes_through_the_network_once(
    duo: Any,
    restored: list[Frame],
    detector: Detector,
    threads: Callable[[int], None],
    num_threads: int,
    num_streams: int,
) -> None:
    threads(num_threads)
    engine = InvertingEngine(batch_size=1)
    clip = vqfr(duo, engine=engine, detector=detector, num_streams=num_streams)
    assert (clip.num_frames, clip.fps, clip.format.id) == (160, RATE, vs.YUV420P8)
    faces = 0
    for index, frame in enumerate(clip.frames()):  # asks for several at once, as vspipe does
        faces += frame.props["VqfrRestored"]
        for plane, wanted in zip(planes_of(frame), restored[index].planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)
    assert faces == 210
    assert faces <= engine.encoded <= 1.05 * faces
    assert faces <= engine.decoded <= 1.05 * faces


@pytest.mark.parametrize("num_threads", [1, 4])
def test_backward_and_shuffled(
    duo: Any,
    restored: list[Frame],
    detector: Detector,
    threads: Callable[[int], None],
    num_threads: int,
) -> None:
    threads(num_threads)
    engine = InvertingEngine(batch_size=1)
    clip = vqfr(duo, engine=engine, detector=detector, num_streams=num_threads)
    assert_same(clip, restored, range(118, 98, -1))
    reach = round(25 * TemporalOptions().pixel_radius + 0.49)
    faces = 110 - (99 - reach) + 2 * (118 + reach - 109)  # from 110 on there are two
    assert engine.decoded <= 1.05 * faces
    assert_same(clip, restored, random.Random(5).sample(range(160), 4))
    # Many at once, and far apart.
    wanted = [3, 150, 61, 58, 4]
    for index, future in [(i, clip.get_frame_async(i)) for i in wanted]:
        for plane, expected in zip(planes_of(future.result()), restored[index].planes, strict=True):
            np.testing.assert_array_equal(plane, expected)


@pytest.mark.parametrize("num_threads", [1, 4])
def test_ten_bits(
    duo: Any, detector: Detector, threads: Callable[[int], None], num_threads: int
) -> None:
    threads(num_threads)
    source = duo[40:75].resize.Bicubic(format=vs.YUV420P10)
    expected = streamed(frames_of(source), InvertingEngine(batch_size=1), detector)
    clip = vqfr(
        source, engine=InvertingEngine(batch_size=1), detector=detector, num_streams=num_threads
    )
    assert_same(clip, expected, range(35))
    assert_same(clip, expected, reversed(range(20, 30)))
    assert_same(clip, expected, random.Random(2).sample(range(35), 6))


def test_rgb_is_near_the_yuv_path(duo: Any, detector: Detector) -> None:
    source = duo[100:112]
    engine = InvertingEngine(batch_size=1)
    rgb = {"format": vs.RGB24}
    through_yuv = vqfr(source, engine=engine, detector=detector).resize.Bicubic(**rgb)
    through_rgb = vqfr(source.resize.Bicubic(**rgb), engine=engine, detector=detector)
    differences = [
        np.abs(a.astype(int) - b)
        for index in range(source.num_frames)
        for a, b in zip(
            planes_of(through_yuv.get_frame(index)),
            planes_of(through_rgb.get_frame(index)),
            strict=True,
        )
    ]
    # Chroma is mixed at half the resolution in one of them and at the whole in the other.
    assert np.mean(differences) < 0.15
    assert np.max(differences) <= 6


def test_the_bundled_model(duo: Any, shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(weights.VARIABLE, str(shared / "weights"))
    source = duo[108:112]
    engine, _ = load_engine(ModelOptions(model="lite", device="cpu"))
    found = RetinaFaceDetector(weights.find("mobilenet"), backbone="mobilenet")
    expected = streamed(frames_of(source), engine, found)
    clip = vqfr(source, model="lite", device_index=-1, num_streams=2)
    assert_same(clip, expected, [2, 3, 0])


FORMATS = [
    "YUV420P8", "YUV422P8", "YUV444P16", "YUV420P12", "RGB24", "RGB48", "GRAY8", "GRAY16",
    "YUV420PS", "YUV444PH", "RGBS", "RGBH", "GRAYS", "GRAYH",
]  # fmt: skip


class Given(MarkerDetector):
    """Finds the faces that a colour picture has in grey ones as well."""

    def __init__(self, picture: Any) -> None:
        self.faces = super().__call__(picture)

    def __call__(self, image: Any) -> Any:
        del image
        return self.faces


def to(clip: Any, name: str) -> Any:
    """The RGB clip in another format; YUV and grey are BT.601, limited where integers."""
    kind = getattr(vs, name)
    matrix = {} if name.startswith("RGB") else {"matrix_s": "170m"}
    return clip.resize.Bicubic(format=kind, **matrix)


@pytest.mark.parametrize("name", FORMATS)
def test_formats(scene_clip: Callable[..., Any], name: str) -> None:
    colour = scene_clip(4, discs=2)
    picture = np.stack([np.asarray(colour.get_frame(0)[p]) for p in range(3)], axis=2)
    source = to(colour, name)
    frames = frames_of(source)
    given = Given(picture)
    work = Restorer(InvertingEngine(), given, RestoreOptions(), 1 / RATE, RATE)
    clip = vqfr(source, engine=InvertingEngine(), detector=given)
    assert clip.format.id == source.format.id
    for index, (expected, frame_faces) in enumerate(restore_frames(frames, work)):
        result, before = clip.get_frame(index), source.get_frame(index)
        assert len(frame_faces.faces) == 2
        hidden = masks(frame_faces.frame, frame_faces.faces)
        for plane, wanted, old, mask in zip(
            planes_of(result), expected.planes, planes_of(before), hidden, strict=True
        ):
            np.testing.assert_array_equal(plane, wanted.astype(plane.dtype))
            assert 0.3 < (mask == 0).mean() < 0.95
            # `masks` is 1 - (1 - mask): its zeros may be some 1e-8, which floats can show.
            bound = 1e-7 if plane.dtype == np.float32 else 0
            np.testing.assert_allclose(plane[mask == 0], old[mask == 0], rtol=0, atol=bound)
        luma, old = planes_of(result)[0], planes_of(before)[0]
        assert (luma[hidden[0] > 0.9] != old[hidden[0] > 0.9]).mean() > 0.5


@pytest.mark.parametrize(
    ("integers", "floats", "bound"),
    [
        ("YUV444P16", "YUV444PS", 3),
        ("YUV420P16", "YUV420PS", 3),
        ("YUV444P16", "YUV444PH", 40),
        ("RGB48", "RGBS", 2),
        ("RGB48", "RGBH", 40),
        ("GRAY16", "GRAYS", 3),
    ],
)
def test_floats_agree_with_integers(
    scene_clip: Callable[..., Any], integers: str, floats: str, bound: int
) -> None:
    colour = scene_clip(2)
    picture = np.stack([np.asarray(colour.get_frame(0)[p]) for p in range(3)], axis=2)
    source = to(colour, integers)

    def run(clip: Any) -> Any:
        return vqfr(clip, engine=InvertingEngine(), detector=Given(picture))

    # zimg says what integers the floats stand for, not we.
    back = run(source.resize.Point(format=getattr(vs, floats))).resize.Point(
        format=getattr(vs, integers)
    )
    for one, other in zip(
        planes_of(back.get_frame(1)), planes_of(run(source).get_frame(1)), strict=True
    ):
        assert np.abs(one.astype(int) - other).max() <= bound


@pytest.mark.parametrize("num_streams", [1, 3])
def test_blocks_fill_the_engine_and_change_nothing(
    scene_clip: Callable[..., Any], num_streams: int
) -> None:
    source = to(scene_clip(14, discs=2, cut=8), "YUV420P8")
    options = RestoreOptions(temporal=TemporalOptions(**ALL_RULES))
    detector = NearMarkerDetector()
    expected = streamed(frames_of(source), InvertingEngine(batch_size=1), detector, options)
    engine = InvertingEngine(batch_size=4)
    clip = vqfr(source, engine=engine, detector=detector, num_streams=num_streams, **ALL_RULES)
    assert_same(clip, expected, range(14))
    assert engine.encoded == engine.decoded == 28
    assert_same(clip, expected, [13, 2, 7, 8, 0])


def test_upscaled(scene_clip: Callable[..., Any]) -> None:
    source = to(scene_clip(3), "YUV420P8").std.SetFrameProps(_SARNum=4, _SARDen=3)
    expected = streamed(
        frames_of(source), InvertingEngine(), NearMarkerDetector(), RestoreOptions(upscale=2)
    )
    clip = vqfr(source, engine=InvertingEngine(), detector=NearMarkerDetector(), upscale=2)
    assert (clip.width, clip.height, clip.fps) == (640, 384, RATE)
    assert_same(clip, expected, range(3))
    props = dict(clip.get_frame(1).props)
    assert (props["_SARNum"], props["_DurationDen"], props["VqfrRestored"]) == (4, 25, 1)


def test_a_clip_of_one_frame(scene_clip: Callable[..., Any]) -> None:
    source = to(scene_clip(1), "YUV420P8")
    expected = streamed(frames_of(source), InvertingEngine(), NearMarkerDetector())
    clip = vqfr(source, engine=InvertingEngine(), detector=NearMarkerDetector(), num_streams=4)
    assert_same(clip, expected, [0])


def test_without_faces_nothing_is_copied_or_changed(scene_clip: Callable[..., Any]) -> None:
    source = to(scene_clip(3, discs=0), "YUV420P10")
    engine = IdentityEngine()
    assert_same(
        vqfr(source, engine=engine, detector=NearMarkerDetector()), frames_of(source), range(3)
    )
    assert engine.encoded == 0


def test_faces_held_by_their_mesh_and_bars_in_front(threads: Callable[[int], None]) -> None:
    count = 14
    blank = vs.core.std.BlankClip(
        format=vs.RGB24, width=portrait.SIDE, height=portrait.SIDE, length=count,
        fpsnum=portrait.RATE.numerator, fpsden=1,
    )  # fmt: skip

    def draw(n: int, f: Any) -> Any:
        frame = f.copy()
        for plane in range(3):
            np.asarray(frame[plane])[...] = portrait.portrait(n, bar=True)[..., plane]
        return frame

    clip = blank.std.ModifyFrame(clips=blank, selector=draw)
    timing = FrameTiming(time_base=1 / portrait.RATE, frame_rate=portrait.RATE, variable=False)
    frames = [to_frame(frame, index, timing) for index, frame in enumerate(clip.frames())]
    options = RestoreOptions(
        temporal=TemporalOptions(landmarks="mesh"), blend=BlendOptions(keep_occluders=True)
    )
    restorer = Restorer(
        portrait.PaintingEngine(), portrait.TremblingDetector(), options, 1 / portrait.RATE,
        portrait.RATE,
    )  # fmt: skip
    expected = [frame for frame, _ in restore_frames(frames, restorer)]
    threads(4)
    filtered = vqfr(
        clip, landmarks="mesh", keep_occluders=True,
        engine=portrait.PaintingEngine(), detector=portrait.TremblingDetector(),
    )  # fmt: skip
    order = list(range(count))
    random.Random(2).shuffle(order)
    assert_same(filtered, expected, order)
