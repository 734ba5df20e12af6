"""The evaluation command on a toy: it runs, and its page says what was counted."""

from pathlib import Path

import torch
from vqfr_training.__main__ import main
from vqfr_training.detector.report import NamedDetector, proxies, write_report
from vqfr_training.detector.retinaface import RetinaFace, initialise, save_detector
from vqfr_training.recipes import smoke_detector


def test_the_command_writes_a_page_and_a_picture(drawn_faces: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = RetinaFace()
    initialise(network, face_share=0.02)  # few of the anchors are taken for faces
    save_detector(tmp_path / "toy.safetensors", network)
    threads = torch.get_num_threads()
    arguments = ["--weights", str(tmp_path / "toy.safetensors"), "--data", str(drawn_faces)]
    arguments += ["--out", str(tmp_path / "page"), "--scenes", "4", "--empty", "2"]
    try:
        assert main(["evaluate-detector", *arguments, "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    report = (tmp_path / "page" / "report.md").read_text()
    assert "## 4 scenes as in training" in report
    assert "| all from 24 px |" in report
    assert "## 2 scenes without a face" in report
    assert (tmp_path / "page" / "scenes.png").stat().st_size > 1000


def test_a_detector_that_finds_nothing_is_reported_all_the_same(
    drawn_faces: Path, tmp_path: Path
) -> None:
    blind = NamedDetector("blind", lambda _: [])
    report = write_report(
        [blind], smoke_detector(), data=drawn_faces, out=tmp_path, scenes=2, empty=1
    )
    assert (
        "- blind: one false face in 20 scenes from score 0.00 on; false faces: 0 from 0.8" in report
    )
    assert "mean overlap of boxes nan; median landmark error nan %" in report


def test_clips_are_searched_in_small_pictures(shared: Path) -> None:
    picture = next(proxies(shared / "data" / "clips" / "duo_gt.mp4"))
    assert picture.shape == (360, 640, 3)
