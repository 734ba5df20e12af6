"""A range of a film: the frames of a whole run, and the sound that belongs to them."""

import json
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.clips import packets
from tests.scenes import HEIGHT, WIDTH, scene
from tests.stand_ins import InvertingEngine, NearMarkerDetector
from vqfr_media.errors import EngineError, OptionError, SkippedFaceError
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.frames import Frame
from vqfr_media.jobs.work_folder import work_folder_of
from vqfr_media.media import formats, read
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, FaceOptions, RestoreOptions, TemporalOptions
from vqfr_media.pipeline import restore_image, restore_video
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.summary import Summary
from vqfr_media.time_range import TimeRange

LOSSLESS = RestoreOptions(
    encode=EncodeOptions(codec="ffv1"),
    temporal=TemporalOptions(latent_radius=0.08),
    segment_seconds=0,
)
FRAMES = 150
# In the middle of shots, of GOPs and of packets of sound; the last is the film's end.
PARTS = (
    TimeRange(end="1.7"),
    TimeRange(start="0:01.7", end="00:00:04.05"),
    TimeRange(start="4050ms"),
)


class Engine(InvertingEngine):
    """Small; stops where it is told to."""

    def __init__(self, stop_after: int | None = None) -> None:
        super().__init__(size=64, batch_size=1)
        self.stop_after = stop_after

    def decode(self, crops: Any, latents: Any, *, fidelity: float) -> Any:
        if self.decoded == self.stop_after:
            raise EngineError("stopped by the test")
        return super().decode(crops, latents, fidelity=fidelity)


def restore(
    source: Path, output: Path, options: RestoreOptions, *, engine: Engine | None = None
) -> Summary:
    detector = None if options.tracks else NearMarkerDetector()
    return restore_video(source, output, options, engine=engine or Engine(), detector=detector)


def frames_of(path: Path) -> list[Frame]:
    with open_video(path) as reader:
        return list(reader)


def planes(frames: list[Frame]) -> list[list[bytes]]:
    return [[np.ascontiguousarray(plane).tobytes() for plane in f.planes] for f in frames]


def write_film(path: Path, *, start: int = 0) -> Path:
    """Writes six seconds of discs with a cut, key frames each 12 frames, sound, words, chapters.

    Its times begin at `start` frames.
    """
    with av.open(str(path), "w") as output:
        if path.suffix == ".mkv":
            chapters: Any = (
                [
                    {"id": n, "start": a, "end": b, "time_base": Fraction(1, 1000),
                     "metadata": {"title": f"part {n}"}}
                    for n, (a, b) in enumerate(((0, 1500), (1500, 5000), (5000, 6000)), 1)
                ]
            )  # fmt: skip
            output.set_chapters(chapters)
        settings = {"g": "12", "bf": "2", "preset": "ultrafast"}
        film: Any = output.add_stream("libx264", rate=Fraction(25), options=settings)
        film.width, film.height, film.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound: Any = output.add_stream("aac", rate=48000, layout="stereo")
        words: Any = output.add_mux_stream("subrip") if path.suffix == ".mkv" else None
        if words is not None:
            words.time_base = Fraction(1, 1000)
        output.start_encoding()
        for at in range(0, 6000, 500) if words is not None else ():
            packet = av.Packet(f"word {at}".encode())
            packet.stream, packet.time_base = words, Fraction(1, 1000)
            packet.pts = packet.dts = at
            packet.duration, packet.is_keyframe = 400, True
            output.mux(packet)
        for index in range(FRAMES):
            rgb = scene(index, discs=2, cut=60)
            picture = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = start + index, Fraction(1, 25)
            output.mux(film.encode(picture))
        output.mux(film.encode(None))
        tone = np.sin(np.arange(48000 * FRAMES // 25) / 9).astype(np.float32) * 0.3
        for at in range(0, len(tone), 1024):
            block = np.repeat(tone[None, at : at + 1024], 2, axis=0)
            samples = av.AudioFrame.from_ndarray(block, format="fltp", layout="stereo")
            samples.sample_rate, samples.pts = 48000, at + start * 48000 // 25
            output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
    return path


@dataclass(frozen=True)
class Film:
    source: Path
    whole: list[Frame]
    summary: Summary


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Film:
    folder = tmp_path_factory.mktemp("film")
    source = write_film(folder / "in.mkv")
    summary = restore(source, folder / "whole.mkv", LOSSLESS)
    return Film(source, frames_of(folder / "whole.mkv"), summary)


@pytest.mark.parametrize("segment_seconds", [0, 0.6])
def test_three_parts_are_the_whole(tmp_path: Path, film: Film, segment_seconds: float) -> None:
    """Frames bit for bit; every packet of sound and every word in exactly one part, at its time."""
    begin = 0
    sound: list[tuple[bytes, Fraction]] = []
    words: list[tuple[bytes, Fraction]] = []
    chapters = []
    for number, part in enumerate(PARTS):
        output = tmp_path / f"{number}.mkv"
        options = replace(LOSSLESS, part=part, segment_seconds=segment_seconds)
        summary = restore(film.source, output, options)
        found = frames_of(output)
        wanted = film.whole[begin : begin + len(found)]
        assert planes(found) == planes(wanted)
        assert [f.pts for f in found] == [f.pts - wanted[0].pts for f in wanted]
        assert summary.frames == len(found)
        own = range(begin, begin + len(found))
        shots = film.summary.shots
        assert summary.shots == (begin, *(shot for shot in shots if shot in own[1:]))
        assert [(track.first_frame, track.last_frame) for track in summary.tracks] == [
            (max(track.first_frame, own.start), min(track.last_frame, own.stop - 1))
            for track in film.summary.tracks
            if track.last_frame >= own.start and track.first_frame < own.stop
        ]
        zero = Fraction(begin, 25)
        end = zero + Fraction(len(found), 25)
        for kind, kept in (("audio", sound), ("subtitle", words)):
            for data, seconds in packets(output, kind)[0]:
                assert seconds is not None
                kept.append((data, seconds + zero))
                # AAC's first packet, which is not heard, lies before the film's beginning.
                assert zero - (Fraction(1, 40) if not number else 0) <= seconds + zero <= end
        with av.open(str(output)) as container:
            chapters.append([(c["start"], c["end"]) for c in container.chapters()])
            assert container.streams.audio[0].metadata.get("NUMBER_OF_FRAMES") is None
        begin += len(found)
    assert begin == FRAMES
    assert sound == packets(film.source, "audio")[0]
    assert words == packets(film.source, "subtitle")[0]
    ms = 1_000_000
    assert chapters == [
        [(0, 1500 * ms), (1500 * ms, 1720 * ms)],
        [(0, 2360 * ms)],
        [(0, 920 * ms), (920 * ms, 1920 * ms)],
    ]


def test_a_subtitle_ends_with_the_part(tmp_path: Path, film: Film) -> None:
    restore(film.source, tmp_path / "a.mkv", replace(LOSSLESS, part=PARTS[0]))
    with av.open(str(tmp_path / "a.mkv")) as container:
        last = [p for p in container.demux(subtitles=0) if p.size][-1]
    assert (last.pts, last.duration) == (1500, 220)  # of 400; the part ends at 1.72 s


def test_the_film_is_not_decoded_up_to_the_part(
    tmp_path: Path, film: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end, that is: the part's frames and windows, and some GOPs to see that seeking is sound.

    Counted are the pictures that leave any decoder.
    """
    decoded = []
    unpack = formats.unpack

    def counted(*args: Any) -> Any:
        decoded.append(args)
        return unpack(*args)

    monkeypatch.setattr(read, "unpack", counted)
    restore(film.source, tmp_path / "a.mkv", replace(LOSSLESS, part=TimeRange(start="5.8")))
    radius, gop = 25, 12
    assert 5 + radius <= len(decoded) <= 5 + radius + gop + (gop + 3 * gop)
    assert planes(frames_of(tmp_path / "a.mkv")) == planes(film.whole[145:])


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mov"])
def test_times_count_from_the_beginning_of_the_file(
    tmp_path: Path, film: Film, suffix: str
) -> None:
    """Whose clock begins anywhere in a transport stream, and with AAC's delay elsewhere."""
    source = write_film(tmp_path / f"in.{suffix}", start=40 if suffix == "ts" else 0)
    # The same pictures as those of the Matroska film, whose whole restoration is at hand.
    assert planes(frames_of(source)) == planes(frames_of(film.source))
    output = tmp_path / "part.mkv"
    restore(source, output, replace(LOSSLESS, part=TimeRange(start="2.0", duration="0.6")))
    found = frames_of(output)
    assert len(found) == 15
    assert planes(found) == planes(film.whole[50:65])
    assert found[0].pts == 0
    heard = [seconds for _, seconds in packets(output, "audio")[0]]
    assert None not in heard
    assert 0 <= min(s for s in heard if s is not None) < Fraction(1024, 48000)
    assert len(heard) in (28, 29)  # 46.9 packets a second


def test_a_part_in_segments_goes_on_where_it_stopped(tmp_path: Path, film: Film) -> None:
    options = replace(LOSSLESS, part=PARTS[1], segment_seconds=0.6)
    output = tmp_path / "a.mkv"
    with pytest.raises(EngineError, match="stopped by the test"):
        restore(film.source, output, options, engine=Engine(100))
    journal = json.loads((work_folder_of(output) / "job.json").read_text())
    assert journal["identity"]["options.part.start"] == "0:01.7"
    assert restore(film.source, output, options).resumed > 0
    assert planes(frames_of(output)) == planes(film.whole[43:102])
    # Another part is another job.
    with pytest.raises(EngineError, match="stopped by the test"):
        restore(film.source, output, options, engine=Engine(100))
    other = replace(options, part=TimeRange(start="1.72", end="00:00:04.05"))
    assert restore(film.source, output, other).resumed == 0


def test_tracks_of_a_part_restore_it(tmp_path: Path, film: Film) -> None:
    """With the numbers of the whole film, whether they are of the whole film or of the part."""
    options = replace(LOSSLESS, part=PARTS[1])
    for number, found_in in enumerate((LOSSLESS, options)):
        tracks = find_tracks(film.source, found_in, detector=NearMarkerDetector())
        assert tracks.source.frame_count == FRAMES
        write_tracks(tmp_path / "tracks.json", tracks)
        output = tmp_path / f"{number}.mkv"
        restore(film.source, output, replace(options, tracks=tmp_path / "tracks.json"))
        assert planes(frames_of(output)) == planes(film.whole[43:102])
    assert tracks.shots == (0, *(shot for shot in film.summary.shots if 43 < shot < 115))
    seen = [a.frame for track in tracks.tracks for a in track.appearances]
    around = 5 + 3 + 2 + 3  # what choosing and smoothing look at on each side
    assert (min(seen), max(seen)) == (43 - around, 101 + around)


def test_strictness_is_about_the_part(tmp_path: Path, film: Film) -> None:
    """Faces are left alone in the whole of it, also where only the windows see them."""
    faces = FaceOptions(min_face=500)
    options = replace(LOSSLESS, part=PARTS[1], strict=True, face=faces)
    with pytest.raises(SkippedFaceError, match="frame 43: a face"):
        restore(film.source, tmp_path / "a.mkv", options)
    restore(film.source, tmp_path / "a.mkv", replace(options, face=FaceOptions()))


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (TimeRange(start="1:02:10"), r"start \(1:02:10\) lies beyond the end of .*in.mkv, which"),
        (TimeRange(end="8"), r"end \(8\) goes beyond the end of .*leave it out"),
        (TimeRange(start="5", duration="5"), r"duration \(5\) goes beyond the end of"),
        (TimeRange(start="1.01", duration="0.01"), r"no frame lies between 1.010 and 1.020 s"),
    ],
)
def test_what_lies_beyond_the_film_is_refused(
    tmp_path: Path, film: Film, part: TimeRange, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        restore(film.source, tmp_path / "a.mkv", replace(LOSSLESS, part=part))
    assert list(tmp_path.iterdir()) == []


def test_who_rounds_the_length_up_means_the_end(tmp_path: Path, film: Film) -> None:
    restore(film.source, tmp_path / "a.mkv", replace(LOSSLESS, part=TimeRange(start="5", end="7")))
    assert len(frames_of(tmp_path / "a.mkv")) == 25


def test_an_image_has_no_range(tmp_path: Path) -> None:
    options = replace(LOSSLESS, part=PARTS[0])
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(OptionError, match="is an image, which has no times; leave out start"):
        restore_image(tmp_path / "a.png", tmp_path / "b.png", options, engine=Engine())
    with pytest.raises(OptionError, match="is an image, which has no times"):
        find_tracks(tmp_path / "a.png", options, detector=NearMarkerDetector())
