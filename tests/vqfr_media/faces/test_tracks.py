"""Tracks as a file: found, written, read back exactly, edited, and what is wrong with it."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from torch import Tensor

from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, InvertingEngine, MarkerDetector
from vqfr_media import cli, weights
from vqfr_media.errors import InputError, OptionError, OutputError, SkippedFaceError
from vqfr_media.faces.tracks import Tracks
from vqfr_media.faces.tracks_file import read_tracks, to_json, write_tracks
from vqfr_media.frames import Display, Frame
from vqfr_media.media.read import open_video
from vqfr_media.options import (
    BlendOptions,
    EncodeOptions,
    FaceOptions,
    RestoreOptions,
    TemporalOptions,
)
from vqfr_media.pipeline import restore_frames, restore_video
from vqfr_media.restoration.find_tracks import find_tracks
from vqfr_media.restoration.restore import Restorer
from vqfr_media.values import EngineSpec, FrameFaces, RestoredFace

LOSSLESS = EncodeOptions(codec="ffv1")


class Blinking(MarkerDetector):
    """Loses the last face in every sixth picture, and is unsure in every seventh."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, image: Any) -> Any:
        faces = super().__call__(image)
        self.calls += 1
        if self.calls % 6 == 0:
            return faces[:-1]
        if self.calls % 7 == 0:
            return [type(f)(f.box + 0.1, f.landmarks / 3 * 3, 0.5) for f in faces]
        return faces


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip and its tracks, as the command would have written them."""
    folder = tmp_path_factory.mktemp("made")
    clip = write_scene(folder / "in.mkv", frames=16, discs=2, cut=9)
    write_tracks(folder / "tracks.json", find_tracks(clip, detector=Blinking()))
    return folder


@pytest.fixture
def clip(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made / "in.mkv", tmp_path))


@pytest.fixture
def file(made: Path, tmp_path: Path) -> Path:
    """The clip's tracks, to be edited."""
    return Path(shutil.copy(made / "tracks.json", tmp_path))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def restored(
    clip: Path,
    options: RestoreOptions,
    *,
    tracks: Path | None = None,
    engine: IdentityEngine | None = None,
) -> list[tuple[Frame, FrameFaces[RestoredFace]]]:
    with open_video(clip) as reader:
        info = reader.info
        work = Restorer(
            engine or InvertingEngine(),
            None if tracks else Blinking(),
            options,
            info.time_base,
            info.frame_rate,
            None if tracks is None else read_tracks(tracks),
        )
        return list(restore_frames(reader, work))


def test_what_is_found(file: Path) -> None:
    tracks = read_tracks(file)
    assert tracks.shots == (0, 9)
    assert [(t.id, t.enabled, t.fidelity) for t in tracks.tracks] == [
        (number, True, None) for number in range(4)
    ]
    ranges = [(t.appearances[0].frame, t.appearances[-1].frame) for t in tracks.tracks]
    assert ranges == [(0, 8), (0, 8), (9, 15), (9, 15)]
    filled = {one.frame for t in tracks.tracks for one in t.appearances if one.filled}
    assert filled == {5, 11}
    source = tracks.source
    assert (source.name, source.width, source.height) == ("in.mkv", 320, 192)
    assert (source.frame_count, source.frame_rate) == (16, Fraction(25))
    assert source.display == Display()


def test_a_file_is_read_back_exactly(clip: Path, file: Path) -> None:
    tracks = read_tracks(file)
    assert to_json(tracks) == file.read_text()
    assert json.loads(file.read_text())["version"] == 1
    found = find_tracks(clip, detector=Blinking())
    assert found.source == tracks.source
    for one, other in zip(found.tracks, tracks.tracks, strict=True):
        for a, b in zip(one.appearances, other.appearances, strict=True):
            assert (a.frame, a.filled, a.face.score) == (b.frame, b.filled, b.face.score)
            np.testing.assert_array_equal(a.face.box, b.face.box)
            np.testing.assert_array_equal(a.face.landmarks, b.face.landmarks)


@pytest.mark.parametrize("faces", ["all", "largest"])
def test_unedited_tracks_change_not_a_bit(clip: Path, file: Path, faces: Any) -> None:
    options = RestoreOptions(
        face=FaceOptions(faces=faces), temporal=TemporalOptions(latent_radius=0.08)
    )
    without = restored(clip, options)
    with_file = restored(clip, options, tracks=file)
    assert len(without) == len(with_file) == 16
    for (one, frame_faces), (other, recalled) in zip(without, with_file, strict=True):
        assert [f.previous for f in frame_faces.faces] == [f.previous for f in recalled.faces]
        assert frame_faces.new_shot == recalled.new_shot
        for plane, wanted in zip(other.planes, one.planes, strict=True):
            np.testing.assert_array_equal(plane, wanted)


def test_a_disabled_track_is_left_alone_and_no_failure(clip: Path, file: Path) -> None:
    def disable(values: dict[str, Any]) -> None:
        values["tracks"][1]["enabled"] = False

    edit(file, disable)
    output = clip.with_name("out.mkv")
    options = RestoreOptions(encode=LOSSLESS, tracks=file, strict=True)
    summary = restore_video(clip, output, options, engine=InvertingEngine())
    assert summary.skipped == {"disabled": 9}
    assert [(t.first_frame, t.last_frame) for t in summary.tracks] == [(0, 8), (9, 15), (9, 15)]
    # The right half of the first shot holds the other face only.
    with open_video(clip) as before, open_video(output) as after:
        for old, new in zip(before, after, strict=True):
            changed = (old.planes[0] != new.planes[0])[:, 200:]
            assert changed.any() == (new.index >= 9)
    strict = RestoreOptions(tracks=file, strict=True, face=FaceOptions(min_face=100))
    with pytest.raises(SkippedFaceError, match="too small"):
        restore_video(clip, output, strict, engine=InvertingEngine())


def test_of_the_largest_faces_disabled_ones_do_not_count(clip: Path, file: Path) -> None:
    def disable(values: dict[str, Any]) -> None:
        for track in values["tracks"][1:4:2]:
            track["enabled"] = False

    largest = RestoreOptions(face=FaceOptions(faces="largest"))
    before = restored(clip, largest, tracks=file)
    edit(file, disable)
    after = restored(clip, largest, tracks=file)
    for (_, one), (_, other) in zip(before, after, strict=True):
        assert len(one.faces) == len(other.faces) == 1
        assert one.faces[0].aligned.tracked.face.size > other.faces[0].aligned.tracked.face.size


class FidelityEngine(IdentityEngine):
    """Paints a face as grey as it is told to be true."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = EngineSpec(**{**vars(self.spec), "has_fidelity": True})

    def decode(self, crops: Tensor, latents: Tensor, *, fidelity: float) -> Tensor:
        return 0 * super().decode(crops, latents, fidelity=fidelity) + fidelity


def test_fidelity_of_one_track(clip: Path, file: Path) -> None:
    def set_fidelity(values: dict[str, Any]) -> None:
        values["tracks"][0]["fidelity"] = 0.25
        values["tracks"][3]["fidelity"] = 1

    edit(file, set_fidelity)
    options = RestoreOptions(temporal=TemporalOptions(pixel_radius=0))
    for _, frame_faces in restored(clip, options, tracks=file, engine=FidelityEngine()):
        seen = [float(face.image[0, 0, 0]) for face in frame_faces.faces]
        assert seen == ([0.25, 0.5] if frame_faces.frame.index < 9 else [0.5, 1])
    with pytest.raises(OptionError, match=r"tracks\.json: a track sets its fidelity.*identity"):
        restore_video(
            clip,
            clip.with_name("out.mkv"),
            RestoreOptions(tracks=file, encode=LOSSLESS),
            engine=IdentityEngine(),
        )


def test_tracks_of_another_clip_are_refused(file: Path, tmp_path: Path) -> None:
    options = RestoreOptions(tracks=file, encode=LOSSLESS)

    def refused(source: Path, says: str) -> None:
        with pytest.raises(InputError, match=rf"tracks\.json: .*in\.mkv.*{says}"):
            restore_video(source, tmp_path / "out.mkv", options, engine=IdentityEngine())
        assert not (tmp_path / "out.mkv").exists()

    refused(write_scene(tmp_path / "longer.mkv", frames=17), "16 frames.*more")
    refused(write_scene(tmp_path / "shorter.mkv", frames=15), "16 frames.*15")
    tracks = read_tracks(file)
    for size in ((640, 192), (320, 190)):
        with pytest.raises(InputError, match=f"320×192.*{size[0]}×{size[1]}"):
            tracks.check_picture(*size, Display())
    with pytest.raises(InputError, match=r"at 1 turned 0°.*at 4/3 turned 90°"):
        tracks.check_picture(320, 192, Display(Fraction(4, 3), 1))
    # A container that lies in the same way both times is no other clip.
    claimed = write_scene(tmp_path / "claims.mp4", frames=16, codec="libx264", discs=2)
    write_tracks(file, find_tracks(claimed, detector=MarkerDetector()))
    edit(file, lambda values: values["source"].update(frame_count_from_header=16))
    restore_video(claimed, tmp_path / "out.mp4", RestoreOptions(tracks=file),
                  engine=IdentityEngine())  # fmt: skip
    edit(file, lambda values: values["source"].update(frame_count_from_header=15))
    with pytest.raises(InputError, match=r"15 frames by its header.*16"):
        restore_video(claimed, tmp_path / "out.mp4", RestoreOptions(tracks=file),
                      engine=IdentityEngine())  # fmt: skip


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    """Sets the value at the end of `path`; a missing one is deleted by `...`."""
    *way, key, value = path

    def change(values: Any) -> None:
        for step in way:
            values = values[step]
        if value is ...:
            del values[key]
        else:
            values[key] = value

    return change


FACE = ("tracks", 2, "faces", 3)


def test_strength_of_one_track(clip: Path, file: Path) -> None:
    def bits(tracks: Path, strength: float) -> list[bytes]:
        options = RestoreOptions(blend=BlendOptions(strength=strength))
        engine = InvertingEngine()
        return [
            b"".join(plane.tobytes() for plane in frame.planes)
            for frame, _ in restored(clip, options, tracks=tracks, engine=engine)
        ]

    with open_video(clip) as reader:
        source = [b"".join(plane.tobytes() for plane in frame.planes) for frame in reader]
    full = bits(file, 1)
    assert bits(file, 0) == source != full
    edit(file, put("tracks", 0, "strength", ...))  # as in files from before there was one
    assert bits(file, 1) == full

    def set_strength(values: dict[str, Any]) -> None:
        for track in values["tracks"]:
            track["strength"] = 1 if track["id"] in (0, 2) else 0

    edit(file, set_strength)
    own = bits(file, 0.3)
    assert own not in (source, full)
    assert bits(file, 1) == own  # every track has a strength of its own
    assert [t.strength for t in read_tracks(file).tracks] == [1, 0, 1, 0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("format", "other"), "the file is not one of tracks"),
        (put("version", 2), "version 2 is not known.*reads version 1"),
        (put("tracks", ...), 'the file lacks "tracks"'),
        (put("colour", 1), 'the file has an unknown "colour"'),
        (put("source", "width", 0), r"source\.width must be at least 1"),
        (put("source", "time_base", "1/0"), r"source\.time_base must be a ratio"),
        (put("source", []), "source must be an object"),
        (put("shots", []), "shots must begin with 0"),
        (put("shots", [0, 9, 9]), "shots must be in order"),
        (put("shots", [0, 16]), r"shots\[1\] must be between 0 and 15"),
        (put("tracks", 1, "id", 0), r"tracks\[1\]\.id 0 is another"),
        (put("tracks", 1, "enabled", "no"), r"tracks\[1\]\.enabled must be true or false"),
        (put("tracks", 1, "enable", False), r'tracks\[1\] has an unknown "enable"; known are'),
        (put("tracks", 1, "fidelity", 1.5), r"tracks\[1\]\.fidelity must be between 0 and 1"),
        (put("tracks", 1, "strength", -0.1), r"tracks\[1\]\.strength must be between 0 and 1"),
        (put(*FACE, "landmarks", ...), r'tracks\[2\]\.faces\[3\] lacks "landmarks"'),
        (put(*FACE, "landmarks", []), r"faces\[3\]\.landmarks must be five points, got 0"),
        (
            put(*FACE, "landmarks", [[1, 1]] * 5),
            r"tracks\[2\]\.faces\[3\]\.landmarks cannot be aligned",
        ),
        (put(*FACE, "landmarks", [[1, "x"]] * 5), r"landmarks\[0\]\[1\] must be a number"),
        (put(*FACE, "box", [5, 5, 4, 6]), r"faces\[3\]\.box must be x0, y0, x1, y1"),
        (put(*FACE, "box", [5, 5]), r"faces\[3\]\.box must be 4 numbers"),
        (put(*FACE, "frame", 9), r"faces\[3\]\.frame must be later"),
        (put(*FACE, "frame", 99), r"faces\[3\]\.frame must be between 0 and 15"),
        (put(*FACE, "frame", True), r"faces\[3\]\.frame must be a whole number"),
        (put(*FACE, "score", float("nan")), r"faces\[3\]\.score must be between"),
    ],
)
def test_a_wrong_file_names_the_place(
    file: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    edit(file, change)
    with pytest.raises(InputError, match=rf"tracks\.json: {'.*' if '[' in says else ''}{says}"):
        read_tracks(file)


def test_a_file_that_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "tracks.json"
    with pytest.raises(InputError, match="no such file; make it with `vqfr-media tracks"):
        read_tracks(path)
    path.write_text('{"format": "vqfr-media tracks",\n "version": 1\n "shots": []}')
    with pytest.raises(InputError, match=r"is not JSON: .*line 3"):
        read_tracks(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as tracks"):
        read_tracks(path)
    with pytest.raises(InputError, match="cannot be read as tracks"):
        read_tracks(tmp_path)


def test_a_folder_that_is_not_there(file: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        write_tracks(tmp_path / "nowhere" / "tracks.json", read_tracks(file))


def test_a_track_that_misses_a_frame_is_two_chains(clip: Path, file: Path) -> None:
    def remove(values: dict[str, Any]) -> None:
        del values["tracks"][0]["faces"][3]

    edit(file, remove)
    tracks: Tracks = read_tracks(file)
    with open_video(clip) as reader:
        results = [tracks.frame_faces(frame) for frame in reader]
    assert [len(frame_faces.faces) for frame_faces in results[:6]] == [2, 2, 2, 1, 2, 2]
    assert [[f.previous for f in frame_faces.faces] for frame_faces in results[2:6]] == [
        [0, 1], [1], [None, 0], [0, 1],
    ]  # fmt: skip


def run(*arguments: object) -> int:
    """Runs the command in this process; returns its exit code."""
    with pytest.raises(SystemExit) as caught:
        cli.main([str(argument) for argument in arguments])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_commands(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(weights.VARIABLE, str(shared / "weights"))
    source, file = tmp_path / "in.mkv", tmp_path / "tracks.json"
    with av.open(str(shared / "data/clips/duo_lq.mp4")) as reader, av.open(str(source), "w") as out:
        stream: Any = out.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for index, picture in enumerate(itertools.islice(reader.decode(video=0), 58, 62)):
            picture.pts, picture.time_base = index, Fraction(1, 25)
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
    assert run("tracks", source, "-o", file) == 0
    assert f"{file}: 2 tracks of " in capsys.readouterr().out
    lite = ["--model", "lite", "--backend", "torch", "--device", "cpu"]
    lite += ["--codec", "ffv1", "--quiet"]
    assert run("restore", source, "-o", tmp_path / "a.mkv", *lite) == 0
    assert run("restore", source, "-o", tmp_path / "b.mkv", *lite, "--tracks", file) == 0
    with open_video(tmp_path / "a.mkv") as one, open_video(tmp_path / "b.mkv") as other:
        for a, b in zip(one, other, strict=True):
            for plane, wanted in zip(b.planes, a.planes, strict=True):
                np.testing.assert_array_equal(plane, wanted)
    capsys.readouterr()
    edit(file, put("tracks", 0, "fidelity", 0.5))
    assert run("restore", source, "-o", tmp_path / "c.mkv", *lite, "--tracks", file) == 2
    assert "a track sets its fidelity, which has no effect on lite" in capsys.readouterr().err
    assert run("tracks", source, "-o", tmp_path / "nowhere" / "tracks.json") == 3
    assert "there is no folder" in capsys.readouterr().err


def test_tracks_never_replace_the_video_and_a_report_never_the_tracks(
    clip: Path, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, edited = clip.read_bytes(), file.read_bytes()
    assert run("tracks", clip, "-o", clip) == 2
    assert "input itself" in capsys.readouterr().err
    options = ["--tracks", file, "--report", file]
    assert run("restore", clip, "-o", tmp_path / "new.mkv", *options) == 2
    assert "input itself" in capsys.readouterr().err
    assert (clip.read_bytes(), file.read_bytes()) == (film, edited)


def test_slips_of_the_pen_are_named_before_the_work(file: Path) -> None:
    def face(values: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = values["tracks"][0]["faces"][0]
        return found

    original = file.read_text()
    for change, says in (
        (lambda v: face(v).update(score=10**400), "score must be between"),
        (lambda v: face(v).update(score=float("nan")), "score must be between"),
        (
            lambda v: face(v).update(
                landmarks=[[1000 * x, 1000 * y] for x, y in face(v)["landmarks"]]
            ),
            r"landmarks\[0\]\[0\] must be between",
        ),
        (
            lambda v: face(v).update(landmarks=[[-300, 0], [600, 0], [0, 0], [0, 600], [9, 9]]),
            "more than the picture has",
        ),
    ):
        file.write_text(original)
        edit(file, change)
        with pytest.raises(InputError, match=says):
            read_tracks(file)
    file.write_text("[" + "1" * 5000 + "]")
    with pytest.raises(InputError, match="is not JSON"):
        read_tracks(file)


def test_a_source_name_that_is_no_utf8_is_escaped(file: Path, tmp_path: Path) -> None:
    tracks = read_tracks(file)
    odd = replace(tracks, source=replace(tracks.source, name="caf\udce9.mp4"))
    write_tracks(tmp_path / "odd.json", odd)
    assert read_tracks(tmp_path / "odd.json").source.name == "caf\\udce9.mp4"
