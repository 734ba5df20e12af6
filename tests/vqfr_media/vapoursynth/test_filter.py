"""What the filter keeps, says and refuses; how it is freed."""

import gc
import json
import weakref
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vapoursynth as vs
import vsvqfr
from torch import Tensor

from tests.stand_ins import IdentityEngine, InvertingEngine, MarkerDetector
from vqfr_media import weights
from vqfr_media.errors import EngineError, InputError
from vqfr_media.faces.detect import detect
from vqfr_media.faces.track import TrackLimits, track
from vqfr_media.faces.tracks import Tracks, TracksSource, collect
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.frames import PixelFormat
from vqfr_media.vapoursynth import vqfr
from vqfr_media.vapoursynth.frames import cuts_of, display_of, format_of, timing_of, to_frame
from vqfr_media.windows import sliding

Make = Callable[..., Any]


def restored(clip: Any, **options: Any) -> Any:
    options.setdefault("engine", InvertingEngine())
    return vqfr(clip, detector=MarkerDetector(), **options)


def yuv(clip: Any) -> Any:
    return clip.resize.Bicubic(format=vs.YUV420P8, matrix_s="170m")


def planes(frame: Any) -> list[Any]:
    return [np.asarray(frame[number]) for number in range(frame.format.num_planes)]


def test_every_property_is_kept_and_ours_are_added(scene_clip: Make) -> None:
    source = yuv(scene_clip(3, discs=2)).std.SetFrameProps(
        _SARNum=1, _SARDen=1, numbers=[1, 2], ratio=0.5, words=["a", "b"], VqfrFaces=7
    )
    clip = restored(source, min_face=56)
    before, after = dict(source.get_frame(1).props), dict(clip.get_frame(1).props)
    ours = {key: after.pop(key) for key in ("VqfrFaces", "VqfrRestored", "VqfrSkipped")}
    assert ours == {"VqfrFaces": 2, "VqfrRestored": 1, "VqfrSkipped": "1 too small"}
    assert after.pop("VqfrModel").endswith(" on cpu")
    del before["VqfrFaces"]
    assert after == before
    assert restored(source).get_frame(0).props["VqfrSkipped"] == ""


def test_a_clip_must_be_a_clip() -> None:
    with pytest.raises(vs.Error, match=r"^vqfr: clip must be a video clip, got None"):
        vqfr(None)


@pytest.mark.parametrize("name", ["_Matrix", "_SARNum", "_SceneChangePrev"])
def test_a_property_that_is_a_list_is_named(scene_clip: Make, name: str) -> None:
    source = yuv(scene_clip(2)).std.SetFrameProps(**{name: [1, 1]})
    with source.get_frame(0) as frame, pytest.raises(InputError, match=name):
        to_frame(frame, 0, timing_of(source))


@pytest.mark.parametrize("ends_before", [False, True])
def test_cuts_are_those_that_the_script_says(scene_clip: Make, ends_before: bool) -> None:
    # No one could see a cut here, but the script says that frame 4 begins a shot.
    def say(n: int, f: Any) -> Any:
        frame = f.copy()
        if ends_before:
            frame.props["_SceneChangeNext"] = int(n == 3)
        else:
            frame.props["_SceneChangePrev"] = int(n == 4)
        return frame

    source = yuv(scene_clip(8))
    told = source.std.ModifyFrame(clips=source, selector=say)
    kept = [to_frame(frame, n, timing_of(told)).cuts for n, frame in enumerate(told.frames())]
    assert [cut[int(ends_before)] for cut in kept].index(True) == (3 if ends_before else 4)
    without, given = (restored(c, pixel_radius=0.2) for c in (source, told))
    differ = [
        any((a != b).any() for a, b in zip(planes(x), planes(y), strict=True))
        for x, y in zip(without.frames(), given.frames(), strict=True)
    ]
    assert differ[3]
    assert differ[4]
    # And where there is a cut, but the script says that there is none, there is none.
    cut = yuv(scene_clip(8, cut=4))
    denied = cut.std.SetFrameProps(_SceneChangePrev=0)
    timing = timing_of(cut)
    for clip, expected in ((cut, None), (denied, False)):
        assert to_frame(clip.get_frame(4), 4, timing).cuts == (expected, None)


def test_formats_follow_the_properties() -> None:
    def resolved(name: str, height: int = 1080, **props: int) -> PixelFormat:
        return format_of(vs.core.get_video_format(getattr(vs, name)), height, props)

    assert resolved("YUV420P8") == PixelFormat(family="yuv", subsampling=(1, 1))
    assert resolved("YUV420P8", 480).matrix == "bt601"
    assert resolved("YUV420P8", 2160, _Primaries=9).matrix == "bt2020nc"
    assert resolved("YUV422P10", _Matrix=9, _Range=1) == PixelFormat(
        family="yuv", bits=10, subsampling=(1, 0), matrix="bt2020nc", full_range=True
    )
    # The range's older name is counted the other way round; VapourSynth translates it.
    for said, full in ((0, True), (1, False)):
        with pytest.warns(DeprecationWarning, match="_ColorRange"):
            older = clip_of().std.SetFrameProps(_ColorRange=said).get_frame(0)
        assert format_of(older.format, 1080, older.props).full_range == full
    assert resolved("YUV420P8", _ChromaLocation=2).chroma_location == "topleft"
    assert not resolved("GRAY8").full_range
    assert resolved("RGB48") == PixelFormat(family="rgb", bits=16, full_range=True)
    floats = resolved("YUV444PH", _Range=0)
    assert (floats.sample, floats.bits, floats.full_range) == ("float", 32, True)
    assert display_of({"_SARNum": 4, "_SARDen": 3}).sample_aspect_ratio == Fraction(4, 3)
    assert display_of({"_SARNum": 0, "_SARDen": 1}).sample_aspect_ratio == 1
    assert cuts_of({"_SceneChangePrev": 1, "_SceneChangeNext": 0}) == (True, False)


def test_times_are_frame_numbers_or_the_frames_own() -> None:
    blank = vs.core.std.BlankClip(length=5, fpsnum=24000, fpsden=1001)
    timing = timing_of(blank)
    assert (timing.frame_rate, timing.time_base) == (Fraction(24000, 1001), Fraction(1001, 24000))
    assert timing.pts(3, {"_AbsoluteTime": 99.0}) == 3
    seconds = [0.0, 0.02, 0.04, 0.14, 0.16]

    def tell(n: int, f: Any) -> Any:
        frame = f.copy()
        frame.props["_AbsoluteTime"] = seconds[n]
        return frame

    uneven = vs.core.std.Splice(
        [blank, vs.core.std.BlankClip(blank, length=1, fpsnum=50, fpsden=1)], mismatch=True
    )
    assert uneven.fps_num == 0
    uneven = uneven[:5]
    with pytest.raises(vs.Error, match=r"vqfr: the clip has a variable frame rate.*AssumeFPS"):
        restored(uneven, engine=IdentityEngine())
    timing = timing_of(uneven.std.ModifyFrame(clips=uneven, selector=tell))
    assert timing.frame_rate == Fraction(4, 1) / Fraction(160_000, 1_000_000)
    assert [timing.pts(n, {"_AbsoluteTime": t}) for n, t in enumerate(seconds)] == [
        0, 20_000, 40_000, 140_000, 160_000,
    ]  # fmt: skip


def test_a_background_at_the_final_scale(scene_clip: Make) -> None:
    source = yuv(scene_clip(3)).std.SetFrameProps(number=5)
    background = source.resize.Bicubic(640, 384).std.RemoveFrameProps(["_Matrix", "number"])
    clip = restored(source, upscale=2, bg_clip=background, num_streams=2)
    plain = restored(source, upscale=2)
    for n in range(3):
        frame, other = clip.get_frame(n), plain.get_frame(n)
        assert frame.props["number"] == 5
        assert frame.props["_Matrix"] == 6
        assert frame.props["VqfrRestored"] == 1
        for got, back, lanczos in zip(
            planes(frame), planes(background.get_frame(n)), planes(other), strict=True
        ):
            assert 0.03 < (got != back).mean() < 0.3  # the face
            assert (got[:, -60:] == back[:, -60:]).all()
            changed = got != back
            # Inside of the face it is the restored face that shows, over whichever background.
            middle = np.abs(got.astype(int) - lanczos)[changed]
            assert np.median(middle) <= 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"model": "v3"}, "model must be one of auto, v1, v2, lite, got 'v3'"),
        ({"backend": "magic"}, "backend must be one of auto"),
        ({"faces": "both"}, "faces must be one of all, largest, center"),
        ({"detector": "dlib"}, "detector must be one of auto, bundled, mobilenet, resnet50"),
        ({"min_face": -1}, "min_face must be between 0 and"),
        ({"upscale": 5}, "upscale must be between 1 and 4"),
        ({"num_streams": 0}, "num_streams must be between 1 and 32, got 0"),
        ({"num_streams": "2"}, "num_streams must be between 1 and 32, got '2'"),
        ({"weights": 5}, "a file must be given as a text, got 5"),
        ({"bg_clip": 5}, "bg_clip must be a video clip, got 5"),
        ({"device_index": 7}, "device 'cuda:7' is not here"),
        ({"model": "lite", "device_index": -1, "fidelity": 0.5}, "only v2 has this setting"),
        ({"model": "v1", "offline": True}, "the v1 weights are not here and offline is set"),
        ({"weights": "x.pth"}, "weights needs to know the network: add model v1, v2 or lite"),
        ({"detector": 0}, "detector must be a name or a detector, got 0"),
        ({"engine": 5}, "engine must be a folder's name or an engine, got 5"),
        ({"device_index": "0"}, "device_index must be None, -1 or a GPU's number, got '0'"),
        ({"preview": 1}, "preview must be True or False, got 1"),
        ({"person": 1}, "person needs tracks"),
        ({"tracks": "nowhere.json"}, "nowhere.json: there is no such file"),
    ],
)
def test_options_that_cannot_be_followed(
    options: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    with pytest.raises(vs.Error, match=f"^vqfr: .*{says}"):
        vqfr(vs.core.std.BlankClip(format=vs.YUV420P8), **options)


def test_fields_are_refused_with_the_way_out(scene_clip: Make) -> None:
    source = yuv(scene_clip(3))
    for woven in (1, 2):
        with pytest.raises(vs.Error, match=r"_FieldBased.*std\.SetFieldBased\(0\)"):
            restored(source.std.SetFieldBased(woven))
    later = source.std.Trim(last=0) + source.std.Trim(first=1).std.SetFieldBased(2)
    clip = restored(later, preview=True)
    clip.get_frame(0).close()
    with pytest.raises(vs.Error, match=r"Error: vqfr: frame 1: the clip is interlaced"):
        clip.get_frame(1)


def test_each_frame_says_what_runs_and_a_preview_smooths_nothing(scene_clip: Make) -> None:
    source = yuv(scene_clip(40))
    worked = []
    for preview in (True, False):
        engine = InvertingEngine(size=64, batch_size=1)
        with restored(source, engine=engine, preview=preview).get_frame(20) as frame:
            assert frame.props["VqfrModel"].endswith(" on cpu")
            assert frame.props["VqfrRestored"] == 1
        worked.append(engine.decoded)
    assert worked[0] == 1
    assert worked[1] > 5


def test_a_preview_looks_at_four_frames_to_each_side(scene_clip: Make) -> None:
    asked: set[int] = set()

    def note(n: int, f: vs.VideoFrame) -> vs.VideoFrame:
        asked.add(n)
        return f

    source = yuv(scene_clip(40))
    noted = source.std.ModifyFrame(source, note)
    clip = restored(noted, engine=InvertingEngine(size=64, batch_size=1), preview=True)
    asked.clear()
    clip.get_frame(20).close()
    # Links are made from three to each side, and the frame before needs its own.
    assert asked == set(range(16, 25))


def test_scripts_may_use_the_short_name() -> None:
    assert vsvqfr.vqfr is vqfr


def clip_of(**options: Any) -> Any:
    return vs.core.std.BlankClip(**{"format": vs.YUV420P8, "width": 64, "length": 5, **options})


@pytest.mark.parametrize(
    ("clip", "background", "says"),
    [
        (lambda: clip_of(format=vs.GRAY32), None, "clip is Gray32; integers of 8 to 16 bits"),
        (lambda: clip_of(varsize=True), None, "clip changes its size from frame to frame"),
        (lambda: clip_of(varformat=True), None, "clip changes its format from frame to frame"),
        (clip_of, lambda: clip_of(format=vs.RGB24), "bg_clip is RGB24, but clip is YUV420P8"),
        (clip_of, lambda: clip_of(width=96), "bg_clip is 96×480; .*must be 64×480"),
        (clip_of, lambda: clip_of(length=4), "bg_clip has 4 frames, but clip has 5"),
    ],
)
def test_clips_that_cannot_be_used(clip: Make, background: Make | None, says: str) -> None:
    with pytest.raises(vs.Error, match=f"^vqfr: {says}"):
        restored(clip(), bg_clip=None if background is None else background())


class Failing(IdentityEngine):
    """Fails at its third face."""

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        if self.decoded >= 2:
            raise EngineError("out of memory")
        return super().decode(crops, latents, fidelity=fidelity)


@pytest.mark.parametrize("num_streams", [1, 3])
def test_a_failure_reaches_the_script(scene_clip: Make, num_streams: int) -> None:
    clip = restored(yuv(scene_clip(12)), engine=Failing(batch_size=1), num_streams=num_streams)
    for _ in range(2):
        with pytest.raises(vs.Error, match=r"vqfr: frame 6: out of memory"):
            clip.get_frame(6)
    strict = restored(yuv(scene_clip(2)), min_face=100, strict=True)
    with pytest.raises(vs.Error, match=r"vqfr: frame 0: a face of .*too small.*leave out strict"):
        strict.get_frame(0)
    tinted = yuv(scene_clip(2)).std.SetFrameProps(_Matrix=14)
    with pytest.raises(vs.Error, match=r"ICtCp .*is not supported"):
        restored(tinted).get_frame(0)


def test_several_filters_in_one_script_and_all_are_freed(scene_clip: Make) -> None:
    source = yuv(scene_clip(6, discs=2))
    one, other = InvertingEngine(size=128), IdentityEngine(size=64, batch_size=2)
    seen: list[weakref.ref[Any]] = [weakref.ref(one), weakref.ref(other)]
    first = restored(source, engine=one, num_streams=2)
    both = restored(first, engine=other)
    both.set_output(0)
    first.set_output(1)
    frames = [both.get_frame(n) for n in (5, 0, 3)]
    alone = restored(source, engine=InvertingEngine(size=128))
    for frame, n in zip([first.get_frame(n) for n in range(6)], range(6), strict=True):
        for a, b in zip(planes(frame), planes(alone.get_frame(n)), strict=True):
            np.testing.assert_array_equal(a, b)
    del one, other, first, both
    assert all(ref() is not None for ref in seen)
    vs.clear_outputs()
    gc.collect()
    assert [ref() for ref in seen] == [None, None]
    assert planes(frames[0])[0].mean() > 0  # frames outlive their filter


def test_tracks_take_the_detectors_place(scene_clip: Make, tmp_path: Path) -> None:
    source = yuv(scene_clip(9, discs=2, cut=5))
    timing = timing_of(source)
    frames = [to_frame(frame, n, timing) for n, frame in enumerate(source.frames())]
    detected = (detect(f, MarkerDetector(), proxy=640, score=0.8) for f in frames)
    limits = TrackLimits(max_gap=5)
    stages = (track(window, limits, score=0.8) for window in sliding(detected, limits.radius))
    count, shots, tracks = collect(stages)
    about = TracksSource(
        name="scene", width=320, height=192, frame_count=count, time_base=Fraction(1, 25),
        frame_rate=Fraction(25), display=display_of({}),
    )  # fmt: skip
    path = tmp_path / "tracks.json"
    write_tracks(path, Tracks(about, shots, tracks))

    class Refuse(MarkerDetector):
        """Must not be asked."""

        def __call__(self, image: Any) -> Any:
            raise AssertionError(
                f"faces were looked for in {image.shape}, although there are tracks"
            )

    found = restored(source)
    given = vqfr(source, engine=InvertingEngine(), detector=Refuse(), tracks=path, num_streams=2)
    for n in (3, 0, 8, 4, 5):
        for a, b in zip(planes(given.get_frame(n)), planes(found.get_frame(n)), strict=True):
            np.testing.assert_array_equal(a, b)
    values = json.loads(path.read_text())
    values["tracks"][0]["enabled"] = False
    path.write_text(json.dumps(values))
    edited = vqfr(source, engine=InvertingEngine(), tracks=str(path))
    props = edited.get_frame(2).props
    assert (props["VqfrFaces"], props["VqfrRestored"]) == (2, 1)
    assert props["VqfrSkipped"] == "1 disabled"
    for number, one in enumerate(values["tracks"]):
        one["enabled"], one["person"] = True, 1 + number % 2
    path.write_text(json.dumps(values))
    second = vqfr(source, engine=InvertingEngine(), tracks=path, person=2)
    assert second.get_frame(2).props["VqfrRestored"] == 1
    both = vqfr(source, engine=InvertingEngine(), tracks=path, person=[1, 2])
    assert both.get_frame(2).props["VqfrRestored"] == 2
    with pytest.raises(vs.Error, match=r"there is no person 3 in .*tracks\.json, which has 1, 2"):
        vqfr(source, engine=InvertingEngine(), tracks=path, person=3)
    with pytest.raises(vs.Error, match=r"tracks\.json: .*scene.*9 frames.*8"):
        vqfr(source[:8], engine=InvertingEngine(), tracks=path)
    with pytest.raises(vs.Error, match=r"tracks\.json: .*320×192.*160×96"):
        vqfr(source.resize.Bicubic(160, 96), engine=InvertingEngine(), tracks=path)
