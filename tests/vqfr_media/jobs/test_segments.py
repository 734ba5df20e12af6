"""Segments: read from anywhere, worked in any order, in any process, the same bits."""

import pickle
import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import write_clip
from tests.scenes import write_scene
from tests.stand_ins import InvertingEngine, MarkerDetector, NearMarkerDetector
from vqfr_media.errors import CodecError, MediaError, SkippedFaceError
from vqfr_media.frames import Frame, PixelFormat, VideoInfo
from vqfr_media.jobs.resume import consecutive_ranges
from vqfr_media.jobs.segments import Job, restore_segments, segment_length
from vqfr_media.jobs.work_folder import segment_name
from vqfr_media.media.index import (
    FrameIndex,
    IndexMismatchError,
    index_by_decoding,
    index_packets,
    read_frames,
)
from vqfr_media.media.read import open_video
from vqfr_media.media.segment_file import SegmentFile, join_segments, open_segment, read_segment
from vqfr_media.media.write import open_writer
from vqfr_media.options import EncodeOptions, FaceOptions, RestoreOptions, TemporalOptions
from vqfr_media.restoration.restore import Restorer
from vqfr_media.restoration.stream import restore_frames

ALL_RULES = TemporalOptions(
    landmarks_radius=0.12, latent_radius=0.08, pixel_radius=0.12, max_gap=0.08
)
B_FRAMES = {"g": "12", "bf": "3", "b_strategy": "0", "preset": "ultrafast"}
OPEN = {"g": "12", "preset": "ultrafast", "x264-params": "open-gop=1:bframes=3:b-adapt=0"}
REFRESH = {"g": "12", "preset": "ultrafast", "x264-params": "intra-refresh=1"}


def frames_of(path: Path) -> list[Frame]:
    with open_video(path) as reader:
        return list(reader)


def assert_same(one: Frame, other: Frame) -> None:
    assert (one.index, one.pts, one.duration) == (other.index, other.pts, other.duration)
    for plane, wanted in zip(one.planes, other.planes, strict=True):
        np.testing.assert_array_equal(plane, wanted)


def uneven(count: int) -> list[int]:
    rng = random.Random(5)
    times = [0]
    while len(times) < count:
        times.append(times[-1] + rng.choice([17, 33, 40, 83]))
    return times


SOURCES: dict[str, dict[str, Any]] = {
    "closed.mp4": {"codec": "libx264", "options": B_FRAMES},
    "closed.mkv": {"codec": "libx264", "options": B_FRAMES},
    "closed.ts": {"codec": "libx264", "options": B_FRAMES},
    "open.mp4": {"codec": "libx264", "options": OPEN},
    "open.mkv": {"codec": "libx264", "options": OPEN},
    "open.ts": {"codec": "libx264", "options": OPEN},
    "refresh.mkv": {"codec": "libx264", "options": REFRESH},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "keyint=12:log-level=none"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "mpeg2.mpg": {"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}},
    "intra.mkv": {"codec": "ffv1"},
    "uneven.mkv": {
        "codec": "libx264", "options": B_FRAMES, "pts": uneven(60),
        "time_base": Fraction(1, 1000),
    },
    "hidden.webm": {"codec": "libvpx", "options": {"auto-alt-ref": "1", "lag-in-frames": "16"}},
    "raw.h264": {"codec": "libx264", "options": B_FRAMES},
}  # fmt: skip


@pytest.mark.parametrize("name", SOURCES)
def test_frames_read_from_anywhere_are_those_of_the_stream(tmp_path: Path, name: str) -> None:
    source = tmp_path / name
    write_clip(source, frames=60, **SOURCES[name])
    streamed = frames_of(source)
    index = index_packets(source) or index_by_decoding(source)
    assert index.times.tolist() == [frame.pts for frame in streamed]
    assert index.decoded == (name == "raw.h264")
    last = len(index)
    for first, stop in ((0, 5), (1, 3), (13, 30), (24, 25), (35, 48), (last - 1, last), (40, last)):
        found = list(read_frames(source, index, range(first, stop)))
        assert [frame.index for frame in found] == list(range(first, stop))
        for frame in found:
            assert_same(frame, streamed[frame.index])


def test_a_recording_that_begins_amid_pictures_is_indexed_by_decoding(tmp_path: Path) -> None:
    source = tmp_path / "in.ts"
    write_clip(source, frames=60, codec="mpeg2video", options={"g": "12", "bf": "2"})
    with av.open(str(source)) as container:
        place = next(p.pos for p in container.demux(video=0) if p.size and not p.is_keyframe)
    data = source.read_bytes()
    assert place is not None
    # The tables that a transport stream begins with, and then from the second picture on.
    source.write_bytes(data[: 3 * 188] + data[place - place % 188 :])
    assert index_packets(source) is None
    index = index_by_decoding(source)
    streamed = frames_of(source)
    assert index.decoded
    assert index.times.tolist() == [frame.pts for frame in streamed]
    assert len(index) < 60
    assert len(index.keys) >= 3
    for frame in read_frames(source, index, range(20, 40)):
        assert_same(frame, streamed[frame.index])


def test_seeking_spares_the_decoder(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    write_clip(source, frames=60, codec="libx264", options=B_FRAMES)
    index = index_packets(source)
    assert index is not None
    assert index.keys.tolist() == [0, 12, 24, 36, 48]
    assert index.starts(40) == [36, 12]
    assert index.starts(0) == [0]
    with open_video(source) as reader:
        assert reader.go_to(int(index.times[36]), 36)
        assert next(iter(reader)).index == 36
    with open_video(source) as reader:
        assert not reader.go_to(int(index.times[36]) + 1, 36)


def test_an_index_that_is_not_the_files_is_found_out(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    write_clip(source, frames=20, codec="libx264", options=B_FRAMES)
    index = index_packets(source)
    assert index is not None
    step = int(index.times[1])
    for times in (
        [*index.times[:7], int(index.times[7]) + 1, *index.times[8:]],
        index.times[:-1],
        [*index.times, int(index.times[-1]) + step],
    ):
        wrong = FrameIndex(np.array(times, np.int64), index.keys, decoded=False)
        with pytest.raises(IndexMismatchError, match=r"in\.mp4: (frame \d+|ends after frame)"):
            list(read_frames(source, wrong, range(5, len(times))))


def test_damage_is_told_before_the_work(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_clip(source, frames=60, codec="libx264", options=B_FRAMES)
    data = source.read_bytes()
    middle = len(data) // 2
    source.write_bytes(data[:middle] + bytes(3000) + data[middle + 3000 :])
    try:
        index = index_packets(source)
    except MediaError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either is right
    else:
        assert index is None or len(index) < 60


@pytest.mark.parametrize("rules", [TemporalOptions(), ALL_RULES], ids=["defaults", "all rules"])
def test_a_stretch_of_the_stream_is_the_streams(tmp_path: Path, rules: TemporalOptions) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=60, discs=2, cut=33)
    frames = frames_of(source)
    options = RestoreOptions(temporal=rules)

    def restorer() -> Restorer:
        return Restorer(
            InvertingEngine(size=64, batch_size=3), NearMarkerDetector(), options,
            Fraction(1, 1000), Fraction(25),
        )  # fmt: skip

    streamed = list(restore_frames(frames, restorer()))
    radius = restorer().radii.total
    for wanted in (range(20, 21), range(0, 25), range(28, 40), range(30, 60), range(33, 35)):
        read = frames[max(0, wanted.start - radius) : wanted.stop + radius]
        assert len(read) < 60
        found = list(restore_frames(read, restorer(), wanted=wanted))
        assert [frame.index for frame, _ in found] == list(wanted)
        for frame, frame_faces in found:
            expected, whole = streamed[frame.index]
            assert_same(frame, expected)
            assert frame_faces.new_shot == whole.new_shot
            assert [face.previous for face in frame_faces.faces] == [
                f.previous for f in whole.faces
            ]


def job_of(source: Path, output: Path, *, length: int, options: RestoreOptions) -> Job:
    with open_video(source) as reader:
        info = reader.info
    index = index_packets(source) or index_by_decoding(source)
    stat = source.stat()
    with open_writer(output, source, info, options.encode, threads=2) as writer:
        extradata = writer.extradata
        for frame in frames_of(source):
            writer.write(frame)
    return Job(
        source=source, size=stat.st_size, modified_ns=stat.st_mtime_ns, output=output, info=info,
        options=options, index=index, length=length, threads=2, extradata=extradata,
    )  # fmt: skip


def payload(segment: SegmentFile) -> bytes:
    return segment.path.read_bytes()[: sum(mark.size for mark in segment.marks)]


def read_all(job: Job, folder: Path) -> list[SegmentFile]:
    found = [read_segment(folder / segment_name(n), verify=True) for n in range(job.count)]
    return [segment for segment in found if segment is not None]


@pytest.mark.parametrize(
    ("name", "length"), [("closed.mp4", 16), ("open.ts", 16), ("uneven.mkv", 7), ("raw.h264", 25)]
)
def test_segments_worked_alone_are_those_worked_together(
    tmp_path: Path, name: str, length: int
) -> None:
    """In any order, each with a job that was sent as bytes; also shorter than their overlap."""
    source = tmp_path / name
    if name == "closed.mp4":
        write_scene(source, frames=60, codec="libx264", options=B_FRAMES, discs=2, cut=33)
    else:
        write_clip(source, frames=60, **SOURCES[name])
    options = RestoreOptions(encode=EncodeOptions(preset="ultrafast"))
    job = job_of(source, tmp_path / "out.mkv", length=length, options=options)
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    engine, detector = InvertingEngine(size=64, batch_size=1), NearMarkerDetector()
    done = list(restore_segments(job, range(job.count), together, engine=engine, detector=detector))
    assert done == list(range(job.count))
    order = list(range(job.count))
    random.Random(1).shuffle(order)
    for number in order:
        sent = pickle.loads(pickle.dumps(job))  # noqa: S301 - made here
        engine = InvertingEngine(size=64, batch_size=1)
        assert list(
            restore_segments(
                sent, range(number, number + 1), alone, engine=engine, detector=detector
            )
        ) == [number]
    one, other = read_all(job, together), read_all(job, alone)
    assert len(one) == len(other) == job.count
    for left, right in zip(one, other, strict=True):
        assert left.marks == right.marks
        assert payload(left) == payload(right)
        for key in ("counts", "begins", "ends"):
            assert left.notes[key] == right.notes[key]
    for left, right in pairwise(one):
        assert left.notes["ends"] == right.notes["begins"] is not None


def test_a_segment_alone_computes_little_more_than_its_own_faces(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=60, codec="libx264", options=B_FRAMES)
    job = job_of(source, tmp_path / "out.mkv", length=20, options=RestoreOptions())
    engine = InvertingEngine(size=64, batch_size=1)
    list(restore_segments(job, range(1, 2), tmp_path, engine=engine, detector=MarkerDetector()))
    # Three frames (0.12 s) to each side for the pixels; latents are not averaged by default.
    assert engine.encoded == engine.decoded == 20 + 2 * 3


def test_strict_judges_a_segments_own_frames_only(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=40, codec="libx264", cut=20)
    options = RestoreOptions(strict=True, face=FaceOptions(min_face=200))
    job = job_of(source, tmp_path / "out.mkv", length=10, options=options)
    with pytest.raises(SkippedFaceError, match=r"frame 10: .*too small"):
        list(
            restore_segments(
                job, range(1, 2), tmp_path, engine=InvertingEngine(), detector=MarkerDetector()
            )
        )


def test_another_encoder_is_refused_before_any_frame(tmp_path: Path) -> None:
    source = write_scene(tmp_path / "in.mp4", frames=30, codec="libx264")
    job = job_of(source, tmp_path / "out.mkv", length=10, options=RestoreOptions())
    engine = InvertingEngine()
    other = replace(job, extradata=b"another")
    with pytest.raises(CodecError, match=r"out\.mkv: the encoder on this machine"):
        list(restore_segments(other, range(1), tmp_path, engine=engine, detector=MarkerDetector()))


@pytest.mark.parametrize("rate", [5, 10, 12, Fraction(24000, 1001), 25, 30, 50, 60, 120])
@pytest.mark.parametrize("radius", [0.0, 0.12, 0.5, 1.0])
def test_at_most_two_percent_of_faces_are_computed_twice(
    rate: Fraction | int, radius: float
) -> None:
    info = VideoInfo(
        width=64, height=48, format=PixelFormat(family="yuv"), display=Frame.display,
        time_base=Fraction(1, 1000), frame_rate=Fraction(rate),
    )  # fmt: skip
    options = RestoreOptions(
        temporal=TemporalOptions(latent_radius=radius / 2, pixel_radius=radius)
    )
    length = segment_length(options, info)
    restorer = Restorer(InvertingEngine(), None, options, info.time_base, info.frame_rate)
    assert 2 * (restorer.radii.latents + restorer.radii.pixels) / length <= 0.02
    assert length >= 20 * rate
    assert segment_length(replace(options, segment_seconds=2), info) == -(-2 * Fraction(rate) // 1)
    assert segment_length(replace(options, segment_seconds=0), info) == 0


def test_consecutive_ranges() -> None:
    assert consecutive_ranges([]) == []
    assert consecutive_ranges([3]) == [range(3, 4)]
    assert consecutive_ranges([0, 1, 2, 5, 7, 8]) == [range(3), range(5, 6), range(7, 9)]


def write_packets(path: Path, times: list[tuple[int, int]]) -> SegmentFile:
    with open_segment(path) as file:
        for pts, dts in times:
            packet: Any = av.Packet(b"x" * (abs(pts) % 5 + 1))
            packet.pts, packet.dts, packet.is_keyframe = pts, dts, pts == min(p for p, _ in times)
            file.add([packet])
        file.finish({"any": [1, "thing"]})
    found = read_segment(path, verify=True)
    assert found is not None
    assert found.notes == {"any": [1, "thing"]}
    return found


def test_decoding_times_go_on_at_a_variable_rate(tmp_path: Path) -> None:
    # As x264 writes them: one frame of delay, the first time guessed from the next frame's.
    one = write_packets(tmp_path / "1", [(0, -10), (30, 0), (10, 10), (40, 30)])
    # 90 frames of time lie between its first two: its guess is before what came last.
    two = write_packets(tmp_path / "2", [(50, -40), (150, 50), (140, 140)])
    three = write_packets(tmp_path / "3", [(160, 155)])
    assert [segment.delay for segment in (one, two, three)] == [1, 1, 1]
    packets = list(join_segments([one, two, three], delay=1, time_base=Fraction(1, 100)))
    assert [(p.pts, p.dts) for p in packets] == [
        (0, -10), (30, 0), (10, 10), (40, 30), (50, 40), (150, 50), (140, 140), (160, 150),
    ]  # fmt: skip
    assert [p.is_keyframe for p in packets] == [True, False, False, False, True, False, False, True]
    assert [bytes(p) for p in packets[:2]] == [b"x", b"x"]
    with pytest.raises(CodecError, match="decoding times of this encoder do not go on"):
        list(join_segments([one, two], delay=None, time_base=Fraction(1, 100)))


def test_a_segment_file_that_is_not_whole_is_none(tmp_path: Path) -> None:
    path = tmp_path / "1"
    write_packets(path, [(0, 0), (1, 1)])
    data = path.read_bytes()
    for wrong in (b"", data[:-1], data[1:], data + b"x", data[:5] + b"y" + data[6:]):
        path.write_bytes(wrong)
        assert read_segment(path, verify=True) is None
    assert read_segment(tmp_path / "2", verify=True) is None


def test_packets_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(CodecError, match="packets of this encoder cannot be kept"),
        open_segment(tmp_path / "1") as file,
    ):
        file.add([av.Packet(b"no times")])
    assert list(tmp_path.iterdir()) == []
