"""How long a batch still takes: by frames, not by files."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.scenes import write_scene
from tests.vqfr_media.batch.workers import OPTIONS, run
from vqfr_media.batch.estimate import RemainingTime, frames_to_do
from vqfr_media.batch.plan import plan_folder
from vqfr_media.batch.planner import RerunPolicy
from vqfr_media.batch.task import Task
from vqfr_media.errors import MediaError
from vqfr_media.media.frame_count import guess_frame_count
from vqfr_media.time_range import TimeRange

WHOLE = TimeRange()


def test_what_is_left_is_counted_in_frames() -> None:
    short, long, photo = (Task(Path(name), Path(name)) for name in ("short", "long", "photo"))
    remaining = RemainingTime({short: 10, long: 1000, photo: 1})
    assert remaining.seconds(3.0) is None  # nothing is known of the speed
    remaining.work(short, 10)
    remaining.finish(short)
    assert remaining.seconds(2.0) == pytest.approx(1001 * 0.2)  # by files it would be 4 s
    remaining.skip(long, 500)  # of an earlier run: they say nothing of the speed
    assert remaining.seconds(2.0) == pytest.approx(501 * 0.2)
    remaining.count(long, 400)  # the header says so when it is opened
    assert remaining.seconds(2.0) == pytest.approx(401 * 0.2)
    remaining.finish(long)  # failed
    remaining.work(photo, 1)
    assert remaining.seconds(2.0) == 0


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi", "ts"])
def test_frames_are_guessed_from_a_header(tmp_path: Path, suffix: str) -> None:
    path = write_scene(tmp_path / f"a.{suffix}", frames=30, codec="mpeg4")
    assert abs(guess_frame_count(path, WHOLE) - 30) <= 1
    assert abs(guess_frame_count(path, TimeRange(start="0.4", duration="0.4")) - 10) <= 1
    assert guess_frame_count(path, TimeRange(start="50")) == 1


def test_what_is_no_video_has_no_frames(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(MediaError, match=r"a\.mp4: not a video"):
        guess_frame_count(tmp_path / "a.mp4", WHOLE)


def test_a_batch_counts_what_is_to_do(tmp_path: Path) -> None:
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    write_scene(inputs / "done.mkv", frames=3)
    (inputs / "failed.mkv").write_text("no film")
    run(inputs, outputs)
    write_scene(inputs / "b.mkv", frames=7)
    shutil.copy(inputs / "b.mkv", inputs / "c.mkv")
    Image.new("RGB", (8, 8)).save(inputs / "d.png")
    (inputs / "text.mkv").write_text("no film")
    plan = plan_folder(inputs, outputs, OPTIONS)

    def told(policy: RerunPolicy, **options: float) -> dict[str, int]:
        found = frames_to_do(plan, policy, **options)
        return {task.source.name: count for task, count in found.items()}

    fresh = {"b.mkv": 7, "c.mkv": 7, "d.png": 1, "text.mkv": 0}
    assert told(RerunPolicy()) == fresh
    assert told(RerunPolicy(redo=True)) == {"done.mkv": 3, "failed.mkv": 0, **fresh}
    assert told(RerunPolicy(), most_seconds=0) == {**fresh, "b.mkv": 1, "c.mkv": 1, "text.mkv": 1}
    # What is still behind a URL counts as the others do.
    (inputs / "c.mkv").unlink()
    assert told(RerunPolicy())["c.mkv"] == round((7 + 0) / 2)
    part = replace(OPTIONS, part=TimeRange(duration="0.08"))
    plan = plan_folder(inputs, outputs, part)
    assert told(RerunPolicy())["b.mkv"] == 2
