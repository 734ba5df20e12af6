"""Pictures in folders and in tar shards: the same samples, found without reading a picture."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from vqfr_training.__main__ import main
from vqfr_training.data.augmentation import flips_only
from vqfr_training.data.degradation import Degradation
from vqfr_training.data.photographs import (
    Augmentation,
    Photographs,
    batches,
    template_side,
    validation_pairs,
)
from vqfr_training.data.sources import locate_pictures, write_shards


def tar(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, body in members:
            about = tarfile.TarInfo(name)
            about.size = len(body)
            shard.addfile(about, io.BytesIO(body))
    return path


def png(value: int, *, size: int = 64) -> bytes:
    picture = np.full((size, size, 3), value, np.uint8)
    picture[: size // 2, : size // 4] = 255 - value
    return cv2.imencode(".png", picture)[1].tobytes()


def fill(folder: Path, count: int, *, size: int = 64) -> Path:
    """`count` pictures in folders of ten."""
    for number in range(count):
        path = folder / f"{number // 10:02d}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(number % 256, size=size))
    return folder


def test_a_folder_is_searched_through(tmp_path: Path) -> None:
    fill(tmp_path / "train", 23)
    (tmp_path / "train" / "notes.txt").write_text("no picture")
    (tmp_path / "train" / ".train-000000.part-0123abcd.tar").write_text("left by a killed pack")
    locations = locate_pictures(tmp_path / "train")
    assert [location.name for location in locations] == [
        f"{n // 10:02d}/{n:04d}.png" for n in range(23)
    ]
    assert locations[7].read() == png(7)


def test_shards_hold_the_same_bytes(tmp_path: Path) -> None:
    locations = locate_pictures(fill(tmp_path / "train", 23))
    paths = write_shards(locations, tmp_path / "shards", name="train", each=10)
    assert [path.name for path in paths] == [f"train-00000{n}.tar" for n in range(3)]
    packed = locate_pictures(tmp_path / "shards" / "train")
    assert [piece.read() for piece in packed] == [piece.read() for piece in locations]
    assert packed[12].name == "00000012.png"
    # webdataset's convention: one sample a key, which ends at the first dot.
    with tarfile.open(paths[1]) as shard:
        assert shard.getnames() == [f"{n:08d}.png" for n in range(10, 20)]
    again = write_shards(locations, tmp_path / "again", name="train", each=10)
    assert [a.read_bytes() for a in again] == [p.read_bytes() for p in paths]


def test_samples_from_shards_are_those_from_the_folder(drawn_faces: Path, tmp_path: Path) -> None:
    for part in ("train", "val"):
        write_shards(locate_pictures(drawn_faces / part), tmp_path, name=part, each=4)

    def whole(data: Path, *, keep_mib: int) -> list[torch.Tensor]:
        photographs = Photographs(data / "train", size=32, keep_mib=keep_mib)
        stream = batches(
            photographs,
            first_step=2,
            steps=5,
            batch=4,
            seed=3,
            augmentation=Augmentation(),
            degradation=Degradation(),
            workers=2,
        )
        return [torch.stack(one) for one in stream]

    expected = whole(drawn_faces, keep_mib=1000)
    for data, keep_mib in ((tmp_path, 1000), (tmp_path, 0), (drawn_faces, 0)):
        found = whole(data, keep_mib=keep_mib)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    two = [
        validation_pairs(Photographs(data / "val", size=32), seed=7, degradation=None)[1]
        for data in (drawn_faces, tmp_path)
    ]
    assert torch.equal(*two)


def test_ranks_share_a_batch(drawn_faces: Path) -> None:
    def take(rank: int, world_size: int) -> torch.Tensor:
        stream = batches(
            Photographs(drawn_faces / "train", size=32),
            first_step=1,
            steps=2,
            batch=4,
            seed=3,
            augmentation=Augmentation(),
            degradation=Degradation(),
            workers=1,
            rank=rank,
            world_size=world_size,
        )
        return torch.stack(next(stream))

    whole = take(0, 1)
    assert torch.equal(torch.cat([take(0, 2), take(1, 2)], dim=1), whole)
    assert torch.equal(take(3, 4), whole[:, 3:])
    with pytest.raises(ValueError, match="4 cannot be shared evenly among 3"):
        take(0, 3)


def test_a_data_set_without_parts_is_parted(tmp_path: Path) -> None:
    fill(tmp_path, 50)
    train, val = (locate_pictures(tmp_path / part) for part in ("train", "val"))
    assert [piece.name for piece in val] == [f"0{n}/00{n}0.png" for n in range(5)]
    assert len(train) == 45
    assert not {piece.name for piece in train} & {piece.name for piece in val}
    fill(tmp_path / "more", 400)
    assert len(locate_pictures(tmp_path / "val")) == 32


def test_pictures_of_other_sizes_are_filled_by_the_template(tmp_path: Path) -> None:
    assert template_side(768) == 640
    assert [template_side(side) for side in (64, 512, 1024)] == [64, 512, 1024]
    flipped = replace(flips_only(), flip=1)
    fill(tmp_path / "train", 3)
    photographs = Photographs(tmp_path / "train", size=64)
    decoded = cv2.imdecode(np.frombuffer(png(0), np.uint8), cv2.IMREAD_COLOR_RGB)
    expected = np.asarray(decoded) / np.float32(255)
    np.testing.assert_array_equal(photographs.plain(0), expected)  # not a pixel is filtered
    sample = photographs.sample(np.random.default_rng(4), flipped)
    mirrored = [photographs.plain(number)[:, ::-1] for number in range(3)]
    assert min(float(np.abs(sample - one).max()) for one in mirrored) < 1e-6
    # At half the size every pixel is the mean of four: the edges lie on even places.
    half = Photographs(tmp_path / "train", size=32).plain(0)
    np.testing.assert_allclose(half, expected[::2, ::2], atol=1e-6)


def test_what_cannot_be_trained_on_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train does not exist, and neither do shards train\*"):
        locate_pictures(tmp_path / "nowhere" / "train")
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"no \.jpg, .* pictures in .*train"):
        locate_pictures(tmp_path / "empty" / "train")

    shards = tmp_path / "shards"
    shards.mkdir()
    whole = tar(shards / "train-0.tar", ("a.png", png(1)), ("a.json", b"{}"), ("b.png", png(2)))
    assert [piece.name for piece in locate_pictures(shards / "train")] == ["a.png", "b.png"]
    body = whole.read_bytes()
    for length, message in ((700, "cut short within a"), (512 * 4 + 60, "cut short after 1 pic")):
        whole.write_bytes(body[:length])
        with pytest.raises(ValueError, match=rf"train-0\.tar is {message}"):
            locate_pictures(shards / "train")
    whole.write_bytes(b"no tar" * 200)
    with pytest.raises(ValueError, match=r"train-0\.tar is no readable tar file"):
        locate_pictures(shards / "train")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "train.tar.gz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"train\.tar\.gz is compressed"):
        locate_pictures(tmp_path / "packed")

    small = fill(tmp_path / "small", 2)
    with pytest.raises(ValueError, match=r"64x64: too small for faces of 512 px"):
        Photographs(small, size=512)
    (small / "00" / "0001.png").write_bytes(png(3, size=80))
    with pytest.raises(ValueError, match=r"0001\.png is 80x80, expected 64x64"):
        Photographs(small, size=64)
    lazy = Photographs(small, size=64, keep_mib=0)
    with pytest.raises(ValueError, match=r"0001\.png is 80x80"):
        lazy.image(1)
    (small / "00" / "0000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"0000\.png is not a readable picture"):
        Photographs(small, size=64)
    with pytest.raises(ValueError, match="each must be at least 1"):
        write_shards((), tmp_path, name="train", each=0)


def test_the_command_packs(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data, out = fill(tmp_path / "data", 40), tmp_path / "shards"
    given = ["pack", "--data", str(data), "--out", str(out)]
    assert main([*given, "--each", "30"]) == 0
    names = ["train-000000.tar", "train-000001.tar", "val-000000.tar"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert len(locate_pictures(out / "train")) == 36
    assert main(given) == 2
    assert "train-000000.tar is there already" in caplog.text
    assert main(["pack", "--data", str(data), "--out", str(data / "shards")]) == 2
    assert f"{data / 'shards'} lies in {data}" in caplog.text
    (out / "val-000000.tar").unlink()  # the rest is no validation set
    with pytest.raises(ValueError, match=r"val does not exist, and neither do shards val\*\.tar"):
        locate_pictures(out / "val")
