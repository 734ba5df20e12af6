"""The studio over HTTP: who is answered, what is refused, and that its frames are `restore`'s."""

import io
import json
import re
import shlex
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import vqfr_media.studio
from tests.vqfr_media.studio.conftest import FRAMES, OPTIONS, RunningStudio, running
from vqfr_media import cli
from vqfr_media.demo import scene
from vqfr_media.errors import BackendError, InputError, MachineError, OptionError, OutputError
from vqfr_media.faces.tracks_file import read_tracks, write_tracks
from vqfr_media.media.rgb_clip import read_pictures, write_clip
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.pipeline import restore_image
from vqfr_media.prepare import Prepared
from vqfr_media.studio.libraries import check_studio_available
from vqfr_media.studio.open_session import open_session
from vqfr_media.studio.server import studio_server
from vqfr_media.studio.session import StudioSession
from vqfr_media.time_range import TimeRange

FILES = ("", "base.css", "studio.css", "studio.js", "faces.js", "wipe.js")


def picture(png: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def decoded(path: Path) -> list[npt.NDArray[np.uint8]]:
    """Every frame as RGB, as this package turns planes into pictures."""
    return list(read_pictures(path))


@pytest.mark.parametrize("name", FILES)
def test_the_page_is_served_with_nothing_from_elsewhere(studio: RunningStudio, name: str) -> None:
    answer = studio.ask(name)
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers
    assert not re.search(rb"https?://|//cdn|@import|@font-face", answer.body)


@pytest.mark.parametrize(
    "path", ["/", "/about.json", "/studio.js", "/frame/0/before.png", "/wrong/", "/{token}x/", "//"]
)
def test_without_the_token_nothing_is_told(studio: RunningStudio, path: str) -> None:
    token = urlsplit(studio.address).path.strip("/")
    assert len(token) >= 32
    answer = studio.ask(path.format(token=token), token=False)
    assert answer.status == 403
    assert b"token" in answer.body
    assert token.encode() not in answer.body
    assert studio.ask(f"/{token}/about.json", token=False).status == 200
    assert studio.ask(f"/{token}", token=False).headers["location"] == f"/{token}/"


@pytest.mark.parametrize("path", ["", "about.json", "frame/1/before.png"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost:{port}"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Host": "evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_no_other_name_or_origin_is_answered(
    studio: RunningStudio, path: str, headers: dict[str, str]
) -> None:
    port = str(urlsplit(studio.address).port)
    answer = studio.ask(
        path, headers={name: value.format(port=port) for name, value in headers.items()}
    )
    assert answer.status == 403
    assert b"answers" in answer.body


def test_a_foreign_page_cannot_write(studio: RunningStudio) -> None:
    settings = studio.session.settings.to_json()
    foreign = {"Origin": "http://evil.example"}
    assert studio.ask("save", settings=settings, headers=foreign).status == 403
    # Nor by a form, which needs no leave of the browser.
    form = {"Content-Type": "text/plain"}
    assert studio.ask("save", settings=settings, headers=form).status == 400
    assert studio.ask("save").status == 405
    assert not studio.session.files.tracks.exists()
    own = {"Origin": f"http://{studio.host}", "Sec-Fetch-Site": "same-origin"}
    assert studio.ask("status.json", settings=settings, headers=own).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "session.py", "../session.py", "..%2fsession.py", "%2e%2e/%2e%2e/README.md", "./session.py",
        "page.html", "crop/../page.html", "frame/../../etc/passwd", "crop/0.png/../../session.py",
        "frame/x/before.png", "frame/-1/before.png", "frame/0", "crop/.png", "/etc/passwd",
    ],
)  # fmt: skip
def test_no_path_leads_out(studio: RunningStudio, path: str) -> None:
    answer = studio.ask(path)
    assert answer.status == 404
    assert answer.body == b"Not Found"


def test_what_is_not_there_is_told(studio: RunningStudio) -> None:
    for path in (f"frame/{FRAMES}/before.png", "frame/999999999999999999999/before.png"):
        answer = studio.ask(path)
        assert answer.status == 400
        assert answer.value["error"].endswith(f"there are 0 to {FRAMES - 1}")
    assert studio.ask("crop/7.png").value == {"error": "there is no track 7"}
    good = studio.session.settings.to_json()
    for name in ("frame/0/after.png", "frame/0/faces.json", "status.json", "save"):
        answer = studio.ask(name, settings={**good, "strength": 7})
        assert answer.status == 400
        assert answer.value == {"error": "strength must be between 0 and 1, got 7"}
        answer = studio.ask(name, settings={**good, "fidelity": 0.5})
        assert answer.status == 400
        assert "fidelity has no effect on lite" in answer.value["error"]
        assert studio.ask(name, settings=b"{").status == 400
    large = b"[" + b" " * 2_000_000 + b"]"
    assert "at most 2000000 bytes" in studio.ask("save", settings=large).value["error"]
    assert not studio.session.files.tracks.exists()


def test_the_page_is_told_who_is_there(studio: RunningStudio) -> None:
    about = studio.ask("about.json").value
    assert about["words"] == f"640 × 240, {FRAMES} frames, 25 a second"
    assert [(one["id"], one["person"], one["frames"]) for one in about["tracks"]] == [
        (0, 1, FRAMES),
        (1, 2, FRAMES),
    ]
    assert about["tracks"][0]["reasons"] == []
    assert (about["first"], about["last"]) == (0, FRAMES - 1)
    assert picture(studio.ask("crop/1.png").body).shape == (160, 160, 3)
    told = studio.ask("frame/2/faces.json", settings=about["settings"]).value
    assert told["clock"] == "0:00:00.1"
    assert [(face["track"], face["reason"]) for face in told["faces"]] == [(0, None), (1, None)]
    about["settings"]["persons"]["2"]["enabled"] = False
    told = studio.ask("frame/2/faces.json", settings=about["settings"]).value
    assert [face["reason"] for face in told["faces"]] == [None, "not ticked"]


def test_frames_are_those_that_the_printed_command_writes(
    studio: RunningStudio, tmp_path: Path
) -> None:
    settings = studio.session.settings.to_json()
    settings["strength"], settings["grain"] = 0.85, 0.5
    settings["persons"]["1"]["strength"] = 0.6
    settings["persons"]["2"]["enabled"] = False
    before = [picture(studio.ask(f"frame/{n}/before.png").body) for n in range(FRAMES)]
    # Out of order, after other settings at the same frame.
    other = {**settings, "strength": 1.0, "grain": 1.0}
    seen: dict[int, Any] = {}
    for number in (3, 0, 2, 1):
        assert studio.ask(f"frame/{number}/after.png", settings=other).status == 200
        answer = studio.ask(f"frame/{number}/after.png", settings=settings)
        seen[number] = picture(answer.body)
    assert studio.ask("status.json", settings=settings).value["exists"] is False
    told = studio.ask("save", settings=settings).value
    file = studio.session.files.tracks
    try:
        assert told["exists"] is True
        assert "numpy" not in file.read_text()
        assert set(json.loads(file.read_text())["tracks"][0]) == {
            "id", "person", "enabled", "fidelity", "strength", "faces",
        }  # fmt: skip
        words = shlex.split(told["command"])
        assert words[:2] == ["vqfr-media", "restore"]
        at = words.index("-o") + 1
        words[at] = str(tmp_path / Path(words[at]).with_suffix(".mkv").name)
        with pytest.raises(SystemExit) as caught:
            cli.main([*words[1:], "--codec", "ffv1", "--quiet"])
        assert caught.value.code == 0
    finally:
        file.unlink()
    result = decoded(Path(words[at]))
    source = decoded(studio.session.files.source)
    assert len(result) == len(source) == FRAMES
    for number in range(FRAMES):
        np.testing.assert_array_equal(seen[number], result[number])
        np.testing.assert_array_equal(before[number], source[number])
        # And something was done, to the left one alone.
        assert (result[number][:, :320] != source[number][:, :320]).any()
        np.testing.assert_array_equal(result[number][:, 320:], source[number][:, 320:])


def test_a_part_of_a_film_and_faces_left_alone(
    found_session: StudioSession, ready: Prepared, tmp_path: Path
) -> None:
    tracks = tmp_path / "tracks.json"
    write_tracks(tracks, found_session.tracks)
    source = found_session.files.source
    session = open_session(
        source,
        tmp_path / "out.json",
        RestoreOptions(
            model=OPTIONS.model,
            face=FaceOptions(min_face=90),
            part=TimeRange(start="0.04", duration="0.08"),
            upscale=2,
            tracks=tracks,
        ),
        ready=ready,
    )
    about = session.about()
    assert (about["first"], about["last"]) == (1, 2)
    assert [one["reasons"] for one in about["tracks"]] == [
        ["2 frames: too small (below 90 px; --min-face)"]
    ] * 2
    for number in (0, 3):
        with pytest.raises(OptionError, match=f"there is no frame {number}; there are 1 to 2"):
            session.before(number)
    assert picture(session.before(1)).shape == (480, 1280, 3)
    assert session.after(1, session.settings) == session.before(1)
    command = session.status(session.settings)["command"]
    for words in ("--start 0.04 --duration 0.08", "--min-face 90", "--upscale 2"):
        assert words in command
    # Those of another film are refused.
    other = tmp_path / "other.mp4"
    write_clip(other, decoded(source)[:2], frame_rate=scene.FRAME_RATE, quality=20)
    with pytest.raises(InputError, match=r"which has 4 frames, but this video has 2"):
        open_session(other, tmp_path / "o.json", RestoreOptions(tracks=tracks), ready=ready)


def test_an_image_is_a_film_of_one_frame(
    found_session: StudioSession, ready: Prepared, tmp_path: Path
) -> None:
    path, tracks_file = tmp_path / "photo.png", tmp_path / "tracks.json"
    Image.fromarray(decoded(found_session.files.source)[0]).save(path)
    found = found_session.tracks
    here = replace(
        found,
        source=replace(found.source, frame_count=1),
        tracks=tuple(replace(one, appearances=one.appearances[:1]) for one in found.tracks),
    )
    write_tracks(tracks_file, here)
    options = replace(OPTIONS, tracks=tracks_file)
    session = open_session(path, tmp_path / "t.json", options, ready=ready)
    about = session.about()
    assert (about["words"], about["first"], about["last"]) == ("640 × 240, 1 frame", 0, 0)
    assert picture(session.before(0)).shape == (240, 640, 3)
    assert [face["person"] for face in session.frame(0, session.settings)["faces"]] == [1, 2]
    output = tmp_path / "restored.png"
    restore_image(path, output, options, ready=ready)
    with Image.open(output) as image:
        np.testing.assert_array_equal(
            picture(session.after(0, session.settings)), np.asarray(image.convert("RGB"))
        )
    write_tracks(tracks_file, replace(here, tracks=()))
    with pytest.raises(InputError, match=r"no face was found in it; a lower --score"):
        open_session(path, tmp_path / "t.json", options, ready=ready)


def test_what_cannot_be_written_is_refused_before_the_work(
    studio_film: Path, ready: Prepared, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="is the input itself"):
        open_session(studio_film, studio_film, OPTIONS, ready=ready)
    with pytest.raises(OutputError, match="there is no folder"):
        open_session(studio_film, tmp_path / "no" / "t.json", OPTIONS, ready=ready)


def test_it_listens_to_this_machine_alone(found_session: StudioSession) -> None:
    made = studio_server(found_session)
    with made.socket:
        host, port = made.socket.getsockname()
        assert host == "127.0.0.1"
        assert made.address.startswith(f"http://127.0.0.1:{port}/")
        with pytest.raises(MachineError, match=f"port {port} of this machine cannot be used"):
            studio_server(found_session, port=port)
    with pytest.raises(OptionError, match="port must be between 0 and 65535, got 70000"):
        studio_server(found_session, port=70_000)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MachineError, match="choose another --port"):
            studio_server(found_session, port=taken.getsockname()[1])


def test_nothing_of_it_is_left_running(found_session: StudioSession) -> None:
    before = set(threading.enumerate())
    with running(found_session) as one:
        one.ask("save", settings={}, method="POST")
        one.ask("about.json")
        ours = set(threading.enumerate()) - before
        assert ours
    for thread in ours:  # those that worked for it end a moment after it
        thread.join(30)
        assert not thread.is_alive()


def test_two_studios_have_two_tokens(found_session: StudioSession, studio: RunningStudio) -> None:
    with running(found_session) as other:
        paths = {urlsplit(one.address).path for one in (other, studio)}
        assert len(paths) == 2
        theirs = urlsplit(studio.address).path
        assert other.ask(f"{theirs}about.json", token=False).status == 403


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    check_studio_available()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(BackendError, match=r"needs uvicorn: pip install 'vqfr-media\[studio\]'"):
        check_studio_available()


def test_the_written_file_is_a_tracks_file(studio: RunningStudio) -> None:
    settings = studio.session.settings.to_json()
    settings["tracks"]["1"]["strength"] = 0.25
    settings["persons"]["1"]["enabled"] = False
    studio.ask("save", settings=settings)
    try:
        read = read_tracks(studio.session.files.tracks)
    finally:
        studio.session.files.tracks.unlink()
    assert [(one.enabled, one.strength) for one in read.tracks] == [(False, None), (True, 0.25)]
    assert [len(one.appearances) for one in read.tracks] == [FRAMES] * 2


def test_the_pages_files_are_beside_the_server() -> None:
    folder = Path(vqfr_media.studio.__file__).parent
    there = {path.name for path in folder.iterdir() if path.suffix in {".html", ".css", ".js"}}
    assert there == {"page.html", *FILES} - {"", "base.css"}
