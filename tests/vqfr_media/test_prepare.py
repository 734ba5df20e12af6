"""Which detector runs, and what is said of it."""

import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media import cli, weights
from vqfr_media.choices import ChosenDetector, choose_detector
from vqfr_media.errors import CheckpointError, InputError, OptionError, WeightsError
from vqfr_media.faces.tracks_file import write_tracks
from vqfr_media.options import FaceOptions, RestoreOptions
from vqfr_media.pipeline import restore_video
from vqfr_media.prepare import load_detector
from vqfr_media.restoration.find_tracks import find_tracks

MODELS = Path(weights.__file__).parent / "models"
BUNDLED = MODELS / "detector.safetensors"
NAME = weights.WEIGHTS["mobilenet"].file_name


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is cached or provided, and whoever tries to fetch meets a closed port."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    for name, file in list(weights.WEIGHTS.items()):
        if file.url is not None:
            closed = replace(file, url=f"http://127.0.0.1:9/{file.file_name}")
            monkeypatch.setitem(weights.WEIGHTS, name, closed)


def put_into_cache(content: bytes) -> Path:
    path = weights.cache_folder() / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_auto_takes_the_bundled_detector_and_asks_nobody() -> None:
    chosen = choose_detector(FaceOptions(), offline=False)
    assert (chosen.name, chosen.weights, chosen.backbone) == ("bundled", BUNDLED, "mobilenet")
    assert chosen.why == "facexlib's mobilenet is not on this machine"
    with pytest.raises(WeightsError, match="cannot fetch"):  # the port is closed indeed
        choose_detector(FaceOptions(detector="mobilenet"), offline=False)


def test_auto_takes_what_the_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_bytes(b"my own")
    monkeypatch.setenv(weights.VARIABLE, str(tmp_path))
    chosen = choose_detector(FaceOptions(), offline=False)
    assert (chosen.name, chosen.weights) == ("mobilenet", tmp_path / NAME)
    assert str(tmp_path / NAME) in chosen.why
    own = choose_detector(FaceOptions(detector="bundled"), offline=False)
    assert (own.name, own.weights, own.why) == ("bundled", BUNDLED, "asked for")


def test_auto_takes_a_cached_file_only_while_it_is_sound(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    content = b"PK published"
    published = replace(
        weights.WEIGHTS["mobilenet"], sha256=sha256(content).hexdigest(), size=len(content)
    )
    monkeypatch.setitem(weights.WEIGHTS, "mobilenet", published)
    path = put_into_cache(content)
    chosen = choose_detector(FaceOptions(), offline=False)
    assert (chosen.name, chosen.weights) == ("mobilenet", path)
    put_into_cache(content[:-1] + b"!")
    assert choose_detector(FaceOptions(), offline=False).name == "bundled"
    assert "it is not used" in caplog.text


@pytest.mark.parametrize("name", ["mobilenet", "resnet50"])
def test_offline_says_how_to_get_what_was_asked_for(name: str) -> None:
    options = FaceOptions(detector=name)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=f"the {name} weights are not here and offline is set"):
        choose_detector(options, offline=True)


def test_given_weights_are_mobilenet_s_unless_said_otherwise(tmp_path: Path) -> None:
    mine = tmp_path / "mine.safetensors"
    shutil.copyfile(BUNDLED, mine)
    chosen = choose_detector(FaceOptions(detector_weights=mine), offline=False)
    assert (chosen.name, chosen.weights, chosen.why) == ("mobilenet", mine, f"weights of {mine}")
    load_detector(chosen, device="cpu", score=0.8)
    large = FaceOptions(detector="resnet50", detector_weights=mine)
    with pytest.raises(CheckpointError, match=r"mine\.safetensors does not fit RetinaFace"):
        load_detector(choose_detector(large, offline=False), device="cpu", score=0.8)
    with pytest.raises(InputError, match=r"no weights file .*nowhere"):
        choose_detector(FaceOptions(detector_weights=tmp_path / "nowhere"), offline=False)
    with pytest.raises(OptionError, match="choose mobilenet or resnet50"):
        FaceOptions(detector="bundled", detector_weights=mine)


def test_a_restoration_says_which_detector_it_had_and_why(tmp_path: Path) -> None:
    source, output = write_scene(tmp_path / "in.mkv", frames=2, discs=0), tmp_path / "out.mkv"
    done = restore_video(source, output, engine=IdentityEngine())
    assert done.detector == "bundled"
    assert "detector bundled (facexlib's mobilenet is not on this machine)" in done.lines()
    assert done.to_json()["detector_why"] == done.detector_why

    own = restore_video(source, output, engine=IdentityEngine(), detector=MarkerDetector())
    assert (own.detector, own.detector_why) == ("MarkerDetector", "given by the caller")

    tracks = tmp_path / "tracks.json"
    write_tracks(tracks, find_tracks(source, detector=MarkerDetector()))
    none = restore_video(source, output, RestoreOptions(tracks=tracks), engine=IdentityEngine())
    assert (none.detector, none.detector_why) == ("none", f"the faces are those of {tracks}")


def test_tracks_say_which_detector_found_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_scene(tmp_path / "in.mkv", frames=2, discs=0)
    told: list[ChosenDetector] = []
    find_tracks(source, on_detector=told.append)
    assert [one.name for one in told] == ["bundled"]
    find_tracks(source, detector=MarkerDetector(), on_detector=told.append)
    assert len(told) == 1
    with pytest.raises(SystemExit) as ended:
        cli.main(["tracks", str(source), "-o", str(tmp_path / "tracks.json")])
    assert ended.value.code == 0
    assert "detector bundled (facexlib's mobilenet is not" in capsys.readouterr().out
