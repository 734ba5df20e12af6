"""What has no restored face in it is the input: an image's bytes, a film's bytes or packets."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from tests.clips import packets, write_clip
from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_image, restore_video
from vqfr_media.summary import Summary
from vqfr_media.time_range import TimeRange

SAID = "note: the output is the input, byte for byte"


@pytest.mark.parametrize(
    ("given", "wanted", "same"),
    [
        ("a.jpg", "b.jpg", True),
        ("a.jpeg", "b.JPG", True),
        ("two.jpg", "b.jpg", True),
        ("a.png", "b.png", True),
        ("a.jpg", "b.png", False),
    ],
)
def test_an_image_without_a_face(tmp_path: Path, given: str, wanted: str, same: bool) -> None:
    source, output = tmp_path / given, tmp_path / wanted
    noise = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8) // 8
    kind = "MPO" if given == "two.jpg" else None
    Image.fromarray(noise).save(source, format=kind, quality=70)  # of a PNG, quality is ignored
    summary = restore_image(source, output, engine=IdentityEngine(), detector=MarkerDetector())
    assert summary.restored == 0
    assert (output.read_bytes() == source.read_bytes()) == same
    assert (SAID in summary.lines()) == same
    larger = RestoreOptions(upscale=2)
    restore_image(source, output, larger, engine=IdentityEngine(), detector=MarkerDetector())
    with Image.open(output) as image:
        assert image.size == (128, 96)


def restored(source: Path, output: Path, options: RestoreOptions | None = None) -> Summary:
    return restore_video(
        source, output, options, engine=IdentityEngine(), detector=MarkerDetector()
    )


def test_a_film_without_a_face_is_the_input_s_bytes(tmp_path: Path) -> None:
    source, output = tmp_path / "a.mkv", tmp_path / "b.MKV"
    write_scene(source, discs=0, codec="libx264", frames=12)
    for options in (RestoreOptions(), RestoreOptions(segment_seconds=0.2)):
        said = "note: no face was restored: the output is the input, byte for byte"
        assert said in restored(source, output, options).lines()
        assert output.read_bytes() == source.read_bytes()
        assert sorted(tmp_path.iterdir()) == [source, output]
    for asked in (
        RestoreOptions(encode=EncodeOptions(codec="ffv1")),
        RestoreOptions(encode=EncodeOptions(quality=20)),
        RestoreOptions(part=TimeRange(end="0.2")),
        RestoreOptions(upscale=2),
    ):
        restored(source, output, asked)
        assert output.read_bytes() != source.read_bytes()
    write_scene(source, discs=1, codec="libx264", frames=3)
    assert "input, byte for byte" not in " ".join(restored(source, output).lines())


@pytest.mark.parametrize("given", ["a.mkv", "a.ts", "a.mov"])
@pytest.mark.parametrize("wanted", ["b.mp4", "b.mkv", "b.mov"])
def test_a_film_in_another_container_has_the_input_s_packets(
    tmp_path: Path, given: str, wanted: str
) -> None:
    source, output = tmp_path / given, tmp_path / wanted
    settings = {"preset": "veryfast", "bf": "2", "b_strategy": "0"}
    rotation = 90 if given == "a.mov" else None
    write_clip(source, codec="libx264", frames=12, audio="aac", options=settings, rotation=rotation)
    summary = restored(source, output)
    said = summary.warnings
    if given[1:] != wanted[1:]:
        found = summary.read_back
        assert found[0].startswith("12 packets of stream ")
        assert f"output read back, and all there: {', '.join(found)}" in summary.lines()
    alike = given[1:] == wanted[1:]
    assert alike or "no face was restored: the pictures are the input's" in said[0]
    with open_video(source) as one, open_video(output) as other:
        assert other.info.display == one.info.display
        frames = zip(one, other, strict=True)
        starts = None
        for a, b in frames:
            times = a.pts * one.info.time_base, b.pts * other.info.time_base
            starts = starts or times
            assert abs((times[0] - starts[0]) - (times[1] - starts[1])) <= Fraction(1, 1000)
            for before, after in zip(a.planes, b.planes, strict=True):
                np.testing.assert_array_equal(before, after)
    assert len(packets(output, "audio")[0]) == len(packets(source, "audio")[0])


def test_a_container_that_does_not_take_the_pictures(tmp_path: Path) -> None:
    """They are encoded for it, as ever."""
    source, output = tmp_path / "a.mkv", tmp_path / "b.mp4"
    write_clip(source, codec="libvpx", frames=6)  # which MP4 has no place for
    said = restored(source, output).warnings
    assert not any("no face was restored" in warning for warning in said)
    with av.open(str(output)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
