"""Which files of a folder are taken, in which order, and what their outputs are called."""

import errno
import os
from pathlib import Path, PurePosixPath

import pytest

from vqfr_media.batch.find_media import (
    IMAGE_SUFFIXES,
    REPLACED_SUFFIXES,
    WRITABLE_VIDEOS,
    FileFilter,
    find_media,
    natural_key,
)
from vqfr_media.batch.plan import plan_files, plan_folder
from vqfr_media.batch.record import REPORT_NAME, report_json
from vqfr_media.errors import CodecError, InputError, OptionError
from vqfr_media.media.heif import READ_ONLY
from vqfr_media.media.write import can_encode
from vqfr_media.options import EncodeOptions, RestoreOptions

OPTIONS = RestoreOptions()


def make(folder: Path, *names: str) -> Path:
    """Files of one byte: nothing here looks into them."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def found(folder: Path, **settings: object) -> list[str]:
    return [path.as_posix() for path in find_media(folder, **settings).files]  # type: ignore[arg-type]


def outputs(folder: Path, output: Path, **settings: str) -> dict[str, str]:
    """Relative path of each source, and of its output."""
    plan = plan_folder(folder, output, OPTIONS, **settings)  # type: ignore[arg-type]
    return {
        task.source.relative_to(folder).as_posix(): task.output.relative_to(output).as_posix()
        for task in plan.tasks
    }


def test_natural_order_counts_numbers_and_keeps_folders_together() -> None:
    ordered = [
        "Clip 1.mp4", "clip 1.mp4", "CLIP 1.mp4/in it.mp4", "clip 2.mp4", "clip 10.mp4",
        "clip 10b.mp4", "season 2/b 7.mp4", "season 2/b 11.mp4", "season 10/a.mp4", "祖母.png",
    ]  # fmt: skip
    jumbled = sorted(map(PurePosixPath, ordered), key=str)
    assert [str(path) for path in sorted(jumbled, key=natural_key)] == ordered
    assert [str(path) for path in jumbled] != ordered


def test_a_folder_is_searched_to_its_end(tmp_path: Path) -> None:
    make(tmp_path, "b.MP4", "a/c/d.jpeg", "a/e.mkv", "notes.txt", "a/cover.psd", "README")
    media = find_media(tmp_path)
    assert [path.as_posix() for path in media.files] == ["a/c/d.jpeg", "a/e.mkv", "b.MP4"]
    assert len(media.left_out) == 1
    assert media.left_out[0].startswith("3 files of other kinds: ")
    for kind in ("1 .txt", "1 .psd", "1 without a suffix"):
        assert kind in media.left_out[0]


def test_hidden_files_are_not_taken(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "._a.mp4", ".out.mp4.work/x.mp4", ".a.part-0a1b2c3d.mp4")
    media = find_media(tmp_path)
    assert [path.as_posix() for path in media.files] == ["a.mp4"]
    assert media.left_out == []


@pytest.mark.parametrize(
    ("include", "exclude", "wanted"),
    [
        ((), (), ["one/A.JPG", "one/b.mp4", "two/A.jpg", "two/c.mkv"]),
        (("*.jpg",), (), ["one/A.JPG", "two/A.jpg"]),
        (("*.mp4", "*.mkv"), (), ["one/b.mp4", "two/c.mkv"]),
        (("one/*",), (), ["one/A.JPG", "one/b.mp4"]),
        (("one",), (), ["one/A.JPG", "one/b.mp4"]),
        (("ONE/",), (), ["one/A.JPG", "one/b.mp4"]),
        ((), ("one",), ["two/A.jpg", "two/c.mkv"]),
        ((), ("two/*.jpg",), ["one/A.JPG", "one/b.mp4", "two/c.mkv"]),
        (("*.jpg",), ("./one/a.jpg",), ["two/A.jpg"]),
        (("[ab].*",), (), ["one/A.JPG", "one/b.mp4", "two/A.jpg"]),
    ],
)
def test_patterns(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], wanted: list[str]
) -> None:
    make(tmp_path, "one/A.JPG", "one/b.mp4", "two/A.jpg", "two/c.mkv")
    assert found(tmp_path, file_filter=FileFilter(include, exclude)) == wanted


def test_what_patterns_leave_out_is_told(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "b.jpg", "c.mp4")
    assert find_media(tmp_path, file_filter=FileFilter(("*.mp4",))).left_out == [
        "2 files by --include or --exclude"
    ]


def test_links_are_followed_when_asked_and_never_round_in_a_circle(tmp_path: Path) -> None:
    inputs = make(tmp_path / "in", "a.mp4", "deep/b.mp4")
    make(tmp_path / "elsewhere", "c.mp4")
    (inputs / "more").symlink_to(tmp_path / "elsewhere")
    (inputs / "deep/up").symlink_to(inputs)
    (inputs / "file.mp4").symlink_to(tmp_path / "elsewhere/c.mp4")
    (inputs / "self.mp4").symlink_to(inputs / "self.mp4")
    first = find_media(inputs)
    assert [str(path) for path in first.files] == ["a.mp4", "deep/b.mp4", "file.mp4", "self.mp4"]
    assert sorted(first.left_out) == [
        f"{inputs}/deep/up: a link to a folder; add --follow-links",
        f"{inputs}/more: a link to a folder; add --follow-links",
    ]
    followed = find_media(inputs, follow_links=True)
    assert "more/c.mp4" in map(str, followed.files)
    assert len(followed.files) == 5
    assert followed.left_out == [f"{inputs}/deep/up: a link that leads back to a folder above it"]


def test_outputs_inside_the_inputs_are_no_inputs(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "restored/a.mp4", "before/b.mp4", "before/deep/c.mp4")
    (tmp_path / "before" / REPORT_NAME).write_bytes(report_json([], "now"))
    media = find_media(tmp_path, avoid=tmp_path / "restored")
    assert [str(path) for path in media.files] == ["a.mp4"]
    assert media.left_out == [f"{tmp_path}/before: holds the results of an earlier batch"]
    assert found(tmp_path / "before") == ["b.mp4", "deep/c.mp4"]  # asked for by name


def test_another_programs_batch_json_is_no_reason(tmp_path: Path) -> None:
    make(tmp_path, "folder/a.mp4", "folder/batch.json")
    assert found(tmp_path) == ["folder/a.mp4"]


def test_a_folder_that_cannot_be_read_is_told_and_the_rest_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a.mp4", "secret/b.mp4")
    secret = tmp_path / "secret"
    scandir = os.scandir

    def refuse(folder: Path) -> object:
        """What the system does for all but root, as whom the tests may run."""
        if folder == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    media = find_media(tmp_path)
    assert [str(path) for path in media.files] == ["a.mp4"]
    assert media.unreadable == [f"{secret}: cannot be read: Permission denied"]
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        find_media(secret)


@pytest.mark.parametrize("name", ["missing", "file.mp4", "no\0name"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    make(tmp_path, "file.mp4")
    with pytest.raises(InputError, match=r"no such folder|is no folder"):
        find_media(tmp_path / name)


def test_a_folder_without_media_is_refused_with_what_was_there(tmp_path: Path) -> None:
    make(tmp_path / "in", "a.txt", "b.mp4")
    with pytest.raises(InputError, match=r"no video or image .* 1 \.txt.*--include"):
        plan_folder(tmp_path / "in", tmp_path / "out", OPTIONS, file_filter=FileFilter(("*.jpg",)))


def test_outputs_mirror_the_inputs_and_keep_what_can_be_written(tmp_path: Path) -> None:
    names = [
        f"x/{number}{suffix}"
        for number, suffix in enumerate((*WRITABLE_VIDEOS, *REPLACED_SUFFIXES, *IMAGE_SUFFIXES))
    ]
    made = outputs(make(tmp_path / "in", *names), tmp_path / "out")
    replaced = {**REPLACED_SUFFIXES, **READ_ONLY}
    for name in names:
        path = PurePosixPath(name)
        assert made[name] == str(path.with_suffix(replaced.get(path.suffix, path.suffix)))


def test_suffixes_that_are_asked_for(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.MKV", "b.mp4", "c.avi", "d.MP4", "e.bmp")
    made = outputs(folder, tmp_path / "out", video_suffix=".mp4", image_suffix=".png")
    assert made == {
        "a.MKV": "a.mp4", "b.mp4": "b.mp4", "c.avi": "c.mp4", "d.MP4": "d.MP4", "e.bmp": "e.png",
    }  # fmt: skip


def test_no_two_inputs_have_one_output(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.avi", "a.wmv", "a.mkv", "b.avi", "c/a.avi")
    assert outputs(folder, tmp_path / "out") == {
        "a.avi": "a.avi.mkv", "a.mkv": "a.mkv", "a.wmv": "a.wmv.mkv", "b.avi": "b.mkv",
        "c/a.avi": "c/a.mkv",
    }  # fmt: skip
    make(folder, "a.avi.mkv")
    with pytest.raises(InputError, match="rename one of them"):
        outputs(folder, tmp_path / "out")


def test_an_output_never_replaces_an_input(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.mp4", "in/a.mp4")
    (tmp_path / "out").symlink_to(folder)
    with pytest.raises(InputError, match="folder of the inputs"):
        plan_folder(folder, tmp_path / "out", OPTIONS)
    with pytest.raises(InputError, match="is the input"):
        plan_folder(folder, tmp_path, OPTIONS)  # in/in/a.mp4 -> in/a.mp4


def test_options_that_are_for_one_file_are_refused(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.mp4")

    def plan(options: RestoreOptions, **settings: str) -> None:
        plan_folder(folder, tmp_path / "out", options, **settings)  # type: ignore[arg-type]

    with pytest.raises(OptionError, match=r"tracks.json are those of one video"):
        plan(RestoreOptions(tracks=Path("tracks.json")))
    with pytest.raises(OptionError, match="--video-suffix"):
        plan(RestoreOptions(encode=EncodeOptions(container="matroska")))
    with pytest.raises(OptionError, match=r"video_suffix must be one of .*got '\.avi'"):
        plan(OPTIONS, video_suffix=".avi")
    with pytest.raises(OptionError, match=r"image_suffix must be one of .*got 'png'"):
        plan(OPTIONS, image_suffix="png")
    with pytest.raises(CodecError, match="h267"):
        plan(RestoreOptions(encode=EncodeOptions(codec="h267")))
    assert can_encode("libx264")
    with pytest.raises(OptionError, match="preset"):
        plan(RestoreOptions(encode=EncodeOptions(codec="libx264", preset="hasty")))


def test_images_have_no_codec(tmp_path: Path) -> None:
    folder = make(tmp_path / "in", "a.mp4", "b.png")
    encode = EncodeOptions(codec="libx265", quality=20, image_quality=70)
    video, image = plan_folder(folder, tmp_path / "out", RestoreOptions(encode=encode)).tasks
    assert (video.kind, video.options.encode) == ("video", encode)
    assert (image.kind, image.options.encode) == ("image", EncodeOptions(image_quality=70))


def test_several_files_go_into_one_folder(tmp_path: Path) -> None:
    make(tmp_path, "one/a.mp4", "two/b.avi", "two/a.mp4")
    one, two = tmp_path / "one/a.mp4", tmp_path / "two/b.avi"
    plan = plan_files([two, one, tmp_path / "two/../two/b.avi"], tmp_path / "out", OPTIONS)
    named = [(task.source, task.output.name) for task in plan.tasks]
    assert named == [(two, "b.mkv"), (one, "a.mp4")]
    with pytest.raises(InputError, match="both become"):
        plan_files([one, tmp_path / "two/a.mp4"], tmp_path / "out", OPTIONS)
    with pytest.raises(InputError, match="vqfr-media batch"):
        plan_files([one, tmp_path / "two"], tmp_path / "out", OPTIONS)
    with pytest.raises(InputError, match="is the input"):
        plan_files([one, two], tmp_path / "one", OPTIONS)
    with pytest.raises(InputError, match="NUL"):
        plan_files([one, Path("a\0b.mp4")], tmp_path / "out", OPTIONS)
