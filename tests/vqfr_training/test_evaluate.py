"""`evaluate`: files matched, figures reported, what is missing named; the same for videos."""

import json
import logging
from collections.abc import Callable
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data
from vqfr_training.__main__ import main
from vqfr_training.data.picture_files import match_files
from vqfr_training.evaluation import metric_weights
from vqfr_training.evaluation.evaluate import METRICS, EvaluationOptions, evaluate_pictures
from vqfr_training.evaluation.flow import motion, warped_difference
from vqfr_training.evaluation.metric_weights import NAMES, Missing, locate, metric_file
from vqfr_training.evaluation.metrics import psnr
from vqfr_training.evaluation.report import TITLES, EvaluationReport, MetricValue
from vqfr_training.evaluation.video_metrics import METRICS as VIDEO_METRICS
from vqfr_training.evaluation.video_metrics import evaluate_video

from tests.scenes import scene
from tests.stand_ins import MarkerDetector
from vqfr_media.weights import WeightFile

Picture = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any weights of metrics; returns the folder of one's own."""
    for variable in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("VQFR_MEDIA_WEIGHTS", str(own))
    return own


def face(seed: int, *, size: int = 200, shift: int = 0) -> Picture:
    """A red disc before noise."""
    picture = np.random.default_rng(seed).integers(60, 140, (size, size, 3)).astype(np.uint8)
    cv2.circle(picture, (size // 2 + shift, size // 2), size // 4, (230, 20, 20), -1)
    return picture


def save(folder: Path, **pictures: Picture) -> Path:
    for name, picture in pictures.items():
        path = folder / f"{name.replace('__', '/')}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture[..., ::-1])
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Restored faces, one of them 3 px to the right, and their truth."""
    restored = save(tmp_path / "restored", a=face(1), sub__b=face(2, shift=3))
    return restored, save(tmp_path / "truth", a=face(3), sub__b=face(4))


def test_pictures_are_measured_pair_by_pair(folders: tuple[Path, Path]) -> None:
    restored, truth = folders
    options = EvaluationOptions(metrics=("psnr", "lmd5", "niqe"))
    report = evaluate_pictures(restored, truth, options, detector=MarkerDetector())
    found = report.results["psnr"]
    assert isinstance(found, MetricValue)
    expected = {"a": psnr(face(1), face(3)), "sub/b": psnr(face(2, shift=3), face(4))}
    assert found.each == pytest.approx(expected, rel=1e-9)
    assert found.value == pytest.approx(np.mean(list(expected.values())))
    distance = report.results["lmd5"]
    assert isinstance(distance, MetricValue)
    assert distance.each == pytest.approx({"a": 0, "sub/b": 3}, abs=1e-9)
    assert report.missing == ()
    assert report.pictures == 2


def test_a_lost_face_is_told_and_left_out_of_the_mean(tmp_path: Path) -> None:
    restored = save(tmp_path / "r", a=np.zeros((64, 64, 3), np.uint8), b=face(1, shift=2))
    truth = save(tmp_path / "t", a=face(1, size=64), b=face(1))
    only = EvaluationOptions(metrics=("lmd5",))
    report = evaluate_pictures(restored, truth, only, detector=MarkerDetector())
    assert isinstance(found := report.results["lmd5"], MetricValue)
    assert found.value == pytest.approx(2)
    assert found.count == 1
    assert "not found in 1 of 2" in report.to_text()
    assert json.loads(report.to_json())["results"]["lmd5"]["each"] == {"a": None, "b": 2.0}


def test_what_is_missing_is_named_with_both_ways_out(folders: tuple[Path, Path]) -> None:
    report = evaluate_pictures(*folders, EvaluationOptions(), detector=MarkerDetector())
    assert list(report.results) == list(METRICS)
    assert set(report.missing) == {"lpips", "fid", "deg", "lmd", "deg_ir50"}
    for name, file in (("lpips", "vgg16"), ("fid", "inception"), ("lmd", "awing")):
        missing = report.results[name]
        assert isinstance(missing, Missing)
        for told in (metric_file(file).file_name, str(metric_file(file).url), "--fetch"):
            assert told in missing.reason
        assert f"missing: {missing.reason}" in report.to_text()
    assert json.loads(report.to_json())["results"]["lpips"]["missing"].startswith("vgg16-")


def test_without_a_truth_niqe_is_left(folders: tuple[Path, Path]) -> None:
    report = evaluate_pictures(folders[0], None, EvaluationOptions())
    assert isinstance(report.results["niqe"], MetricValue)
    assert report.results["psnr"] == Missing("needs the truth: --truth")
    assert report.results["fid"] == Missing("needs the truth, or --fid-reference")


def test_niqe_of_small_pictures_is_missing_and_the_rest_is_not(tmp_path: Path) -> None:
    small = save(tmp_path / "small", a=face(1, size=100), b=face(2, size=100))
    report = evaluate_pictures(small, small, EvaluationOptions(metrics=("niqe", "psnr")))
    missing = report.results["niqe"]
    assert isinstance(missing, Missing)
    assert missing.reason.startswith("a: NIQE needs two blocks of 96 px, got 100x100")
    assert "PSNR" in report.to_text()
    assert json.loads(report.to_json())["results"]["psnr"]["value"] is None  # equal: infinite


def test_pictures_that_do_not_match_are_named(tmp_path: Path) -> None:
    some = save(tmp_path / "some", a=face(1), b=face(1), c=face(1), d=face(1), e=face(1))
    one = save(tmp_path / "one", a=face(1, size=120))
    with pytest.raises(
        ValueError, match=r"of .*some, b, c, d and 1 more have no counterpart in .*one"
    ):
        match_files(some, one)
    with pytest.raises(ValueError, match=r"of .*some, b, .* have no counterpart"):
        match_files(one, some)
    alone = save(tmp_path / "alone", a=face(1))
    psnr_only = EvaluationOptions(metrics=("psnr",))
    with pytest.raises(ValueError, match=r"one/a\.png is 120x120, .*alone/a\.png is 200x200"):
        evaluate_pictures(one, alone, psnr_only)
    cv2.imwrite(str(alone / "a.jpg"), face(1))
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png have one name"):
        match_files(alone, one)
    (one / "a.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"a\.png is not a readable picture"):
        evaluate_pictures(one, None, EvaluationOptions(metrics=("niqe",)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no pictures .* in .*empty"):
        match_files(tmp_path / "empty", None)
    with pytest.raises(ValueError, match="not a folder"):
        match_files(tmp_path / "nowhere", None)
    with pytest.raises(ValueError, match="no metric 'psrn'"):
        EvaluationOptions(metrics=("psrn",))
    with pytest.raises(ValueError, match="at least one"):
        EvaluationOptions(metrics=())


def test_weights_are_found_where_people_keep_them(no_weights: Path, tmp_path: Path) -> None:
    for name in NAMES:
        assert isinstance(locate(name), Missing)
    (no_weights / "resnet18_110.pth").write_bytes(b"PK")
    assert locate("arcface_resnet18") == no_weights / "resnet18_110.pth"
    hub = tmp_path / "cache" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    (hub / "vgg16-397923af.pth").write_bytes(b"PK")
    assert locate("vgg16") == hub / "vgg16-397923af.pth"
    with pytest.raises(ValueError, match="no metric stands on 'resnet'"):
        metric_file("resnet")


def test_weights_are_fetched_only_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/good.pth" else 404)
            self.end_headers()
            self.wfile.write(b"PK and the rest")

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    def publish(path: str) -> Callable[[str], WeightFile]:
        url = f"http://127.0.0.1:{server.server_port}{path}"
        return lambda name: WeightFile(
            name=name, what="a test", file_name="own.pth", licence="MIT", url=url
        )

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setattr(metric_weights, "metric_file", publish("/gone.pth"))
        assert isinstance(locate("awing"), Missing)
        assert asked == []
        gone = locate("awing", fetch=True)
        assert isinstance(gone, Missing)
        assert "404" in gone.reason
        monkeypatch.setattr(metric_weights, "metric_file", publish("/good.pth"))
        found = locate("awing", fetch=True)
        assert isinstance(found, Path)
        assert found.read_bytes() == b"PK and the rest"
        server.shutdown()
        thread.join()


def test_the_command(
    folders: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    restored, truth = map(str, folders)
    out = tmp_path / "deep" / "report.json"
    given = ["evaluate", "--restored", restored, "--truth", truth, "--metrics"]
    assert main([*given, "psnr,ssim", "--out", str(out)]) == 0
    assert TITLES["psnr"] in caplog.text
    assert json.loads(out.read_text())["pictures"] == 2
    assert main([*given, "psnr,lpips"]) == 3
    assert "missing: vgg16-397923af.pth" in caplog.text
    assert main([*given, "blur"]) == 2
    assert "no metric 'blur'" in caplog.text
    assert main(["evaluate", "--restored", str(tmp_path / "no")]) == 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQFR_MEDIA_WEIGHTS", str(tmp_path / "nowhere"))
        assert main([*given, "lpips"]) == 3
    assert "nowhere, which does not exist" in caplog.text
    assert main(["evaluate", "--restored", str(folders[0] / "a.png")]) == 2
    assert "give a video as --truth" in caplog.text


def test_five_landmarks_by_the_bundled_detector(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    photograph: Picture = data.astronaut()  # type: ignore[no-untyped-call]
    truth = save(tmp_path / "truth", a=photograph[10:230, 110:330])
    restored = save(tmp_path / "restored", a=photograph[10:230, 102:322])  # 8 px to the right
    out = tmp_path / "report.json"
    given = ["evaluate", "--restored", str(restored), "--truth", str(truth)]
    assert main([*given, "--metrics", "lmd5", "--out", str(out)]) == 0
    assert json.loads(out.read_text())["results"]["lmd5"]["value"] == pytest.approx(8, abs=1)
    assert "RetinaFace (bundled), not the paper's 98" in caplog.text


def write(path: Path, pictures: list[Picture]) -> Path:
    """Losslessly, as RGB."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("ffv1", rate=Fraction(25))
        rows, columns, _ = pictures[0].shape
        stream.width, stream.height, stream.pix_fmt = columns, rows, "bgr0"
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def moving(frames: int, *, cut: int | None = None) -> list[Picture]:
    return [np.asarray(scene(index, cut=cut)) for index in range(frames)]


def measured(report: EvaluationReport, name: str) -> float:
    result = report.results[name]
    assert isinstance(result, MetricValue), result
    return result.value


def video(restored: Path, truth: Path) -> EvaluationReport:
    return evaluate_video(
        restored,
        truth,
        detector=MarkerDetector(),
        detector_name="markers",
        recogniser=Missing("no recogniser here"),
        descriptor=Missing("no network of dlib's here"),
    )


def test_a_video_beside_itself_has_no_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving(6))
    report = video(path, path)
    assert list(report.results) == list(VIDEO_METRICS)
    assert report.pictures == 6
    for name in ("lmd5", "lost", "flicker", "tlme"):
        assert measured(report, name) == 0
    assert measured(report, "sharpness") == 1
    assert measured(report, "psnr") == float("inf")
    assert measured(report, "jitter") == measured(report, "jitter_truth")
    assert measured(report, "warping") == measured(report, "warping_truth")
    # A disc is no face, so there is no mesh.
    mesh, dlib = ("mesh_tremble", "mesh_tremble_truth"), ("dlib_drift", "dlib_drift_truth")
    assert report.missing == (*mesh, *dlib, "identity", "identity_drift", "identity_drift_truth")
    # The jitter by hand: second differences of what the detector says.
    marks = np.array([MarkerDetector()(picture)[0].landmarks for picture in moving(6)])
    second = marks[2:] - 2 * marks[1:-1] + marks[:-2]
    expected = np.linalg.norm(second, axis=2).mean()
    assert measured(report, "jitter") == pytest.approx(expected, abs=1e-6)


def test_flicker_and_warping_error_of_a_known_flicker(tmp_path: Path) -> None:
    still = moving(1)[0]
    truth = write(tmp_path / "truth.mkv", [still] * 5)
    flickering = [still + np.uint8(6 * (index % 2)) for index in range(5)]
    report = video(write(tmp_path / "made.mkv", flickering), truth)
    assert measured(report, "flicker") == pytest.approx(6, abs=0.05)
    assert measured(report, "warping") == pytest.approx(6, abs=0.05)
    assert measured(report, "warping_frame") == pytest.approx(6, abs=0.05)
    assert measured(report, "warping_truth") == 0
    assert measured(report, "unsteadiness") > 0
    assert measured(report, "unsteadiness_truth") == 0
    assert measured(report, "jitter_truth") == 0


def test_a_shaking_face_shakes(tmp_path: Path) -> None:
    still = moving(1)[0]
    shaken = [np.roll(still, 2 * (index % 2), axis=1) for index in range(5)]
    truth = write(tmp_path / "truth.mkv", [still] * 5)
    report = video(write(tmp_path / "made.mkv", shaken), truth)
    assert measured(report, "jitter") == pytest.approx(4)  # +2, -2, +2: second difference 4
    assert measured(report, "tlme") == pytest.approx(2)
    assert measured(report, "lmd5") == pytest.approx(2 * 2 / 5)  # two of five frames are off by 2


def test_tracks_end_at_a_cut(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.mkv", moving(8, cut=4))
    result = video(path, path).results["psnr"]
    assert isinstance(result, MetricValue)
    assert list(result.each) == ["track 0", "track 1"]
    flicker = video(path, path).results["flicker"]
    assert isinstance(flicker, MetricValue)
    assert flicker.count == 6  # no pair across the cut


def test_identity_where_there_is_a_recogniser(tmp_path: Path) -> None:
    def mean_colour(crop: Picture) -> NDArray[np.float64]:
        return np.asarray(crop.astype(np.float64).mean(axis=(0, 1)))

    still = moving(1)[0]
    turned = [still if index % 2 else still[..., ::-1].copy() for index in range(4)]
    # The truth is red throughout; the other video is red in every second frame only.
    truth, made = write(tmp_path / "t.mkv", [still] * 4), write(tmp_path / "m.mkv", turned)
    report = evaluate_video(
        made,
        truth,
        detector=MarkerDetector(),
        detector_name="markers",
        recogniser=mean_colour,
        descriptor=mean_colour,
    )
    drift = measured(report, "identity_drift")
    assert drift > 20
    assert measured(report, "identity") == pytest.approx(drift / 2, rel=0.02)
    assert measured(report, "identity_drift_truth") == pytest.approx(0, abs=1e-5)
    assert measured(report, "dlib_drift") > 50
    assert measured(report, "dlib_drift_truth") == 0


def test_videos_that_do_not_match_are_refused(tmp_path: Path) -> None:
    pictures = moving(4)
    whole = write(tmp_path / "whole.mkv", pictures)
    with pytest.raises(ValueError, match=r"whole\.mkv has more frames than .*short\.mkv.* has 3"):
        video(write(tmp_path / "short.mkv", pictures[:3]), whole)
    small = write(tmp_path / "small.mkv", [p[:160, :240] for p in pictures])
    with pytest.raises(ValueError, match=r"small\.mkv is 240x160, .*whole\.mkv is 320x192"):
        video(small, whole)
    grey = write(tmp_path / "grey.mkv", [np.full((64, 64, 3), 90, np.uint8)] * 3)
    with pytest.raises(ValueError, match="no faces in"):
        video(grey, grey)


def test_flow_follows_a_shift_and_knows_what_it_cannot_see() -> None:
    rows, columns = 120, 160
    coarse = np.random.default_rng(0).integers(0, 255, (12, 16, 3)).astype(np.uint8)
    wide = cv2.resize(coarse, (columns + 40, rows), interpolation=cv2.INTER_CUBIC)
    then = np.ascontiguousarray(wide[:, 20 : 20 + columns], np.uint8)
    now = np.ascontiguousarray(wide[:, 15 : 15 + columns], np.uint8)  # moved right by 5
    flow, visible = motion(now, then)
    inner = np.s_[20:-20, 20:-20]
    np.testing.assert_allclose(flow[inner][..., 0], -5, atol=0.5)
    np.testing.assert_allclose(flow[inner][..., 1], 0, atol=0.5)
    assert visible[inner].mean() > 0.98
    assert visible[:, :3].mean() < 0.2  # came in from the left: it has no counterpart
    error = warped_difference(now, then, np.full((rows, columns, 2), (-5, 0), np.float32))
    assert error[:, 8:].max() == 0
