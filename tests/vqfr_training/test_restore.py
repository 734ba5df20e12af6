"""`python -m vqfr_training restore`: a run's pictures are those of its network, of every kind."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from vqfr_training.__main__ import main
from vqfr_training.configs import Recipe, Stage2
from vqfr_training.data.photographs import to_tensor
from vqfr_training.loop import load_averaged, run
from vqfr_training.recipes import find_recipe, smoke_stage1, smoke_stage2
from vqfr_training.stage import place
from vqfr_training.vqfr.networks import (
    codebook_network,
    place_network,
    restoration_network,
    restore,
)
from vqfr_training.vqfr.restore import load_trained, restore_folder

pytestmark = pytest.mark.usefixtures("one_thread")

Picture = NDArray[np.uint8]


def variant(kind: str) -> Recipe[Any]:
    """The toy recipe of this kind, a few steps long."""
    first = replace(smoke_stage1(), steps=12)
    second = replace(smoke_stage2(), steps=3, warmup_steps=1)
    match kind:
        case "stage1":
            return first
        case "parallel":
            return second
        case "single":
            stage = Stage2(variant="single", main=None)
            pyramid = replace(second.network, input_pyramid=True)
            return replace(second, name="single", network=pyramid, stage=stage)
        case _:
            return replace(second, name="simple", stage=Stage2(variant="simple", main=None))


@pytest.fixture(scope="module")
def runs(drawn_faces: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run folder of each kind."""
    folder = tmp_path_factory.mktemp("runs")
    for kind in ("stage1", "parallel", "single", "simple"):
        init = None if kind == "stage1" else folder / "stage1"
        run(variant(kind), data=drawn_faces, out=folder / kind, init=init)
    return folder


@pytest.fixture(scope="module")
def lq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of 64 px, one of them in a folder of its own and a BMP."""
    folder = tmp_path_factory.mktemp("lq")
    (folder / "more").mkdir()
    generator = np.random.default_rng(2)
    for name in ("a.png", "b.png", "more/c.bmp"):
        small = generator.integers(0, 255, (8, 8, 3), np.uint8)
        cv2.imwrite(str(folder / name), cv2.resize(small, (64, 64)))
    return folder


def read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    return np.asarray(picture, np.uint8)


def tensor(picture: Picture) -> Tensor:
    return to_tensor([np.asarray(picture / np.float32(255), np.float32)])


def drawn_by_hand(recipe: Recipe[Any], trained: Path, picture: Picture) -> Picture:
    network: Any = (
        restoration_network(recipe.network, recipe.stage)
        if isinstance(recipe.stage, Stage2)
        else codebook_network(recipe.network)
    )
    network.load_state_dict(load_averaged(trained))
    place_network(network, torch.device("cpu"))
    with torch.no_grad():
        image = restore(network, place(tensor(picture), torch.device("cpu"))).main
    levels = np.rint((image[0].permute(1, 2, 0).numpy() + 1) * np.float32(127.5))
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


@pytest.mark.parametrize("kind", ["stage1", "parallel", "single", "simple"])
def test_the_pictures_are_those_of_the_averaged_network(
    kind: str, runs: Path, lq: Path, tmp_path: Path
) -> None:
    recipe, out = variant(kind), tmp_path / "deep/out"
    assert restore_folder(load_trained(recipe, runs / kind), lq, out) == 3
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert files == ["a.png", "b.png", "more/c.png"]
    for source in ("a.png", "b.png", "more/c.bmp"):
        expected = drawn_by_hand(recipe, runs / kind, read(lq / source))
        restored = read((out / source).with_suffix(".png"))
        np.testing.assert_array_equal(restored, expected)
    assert len(list(out.parent.iterdir())) == 1


def test_the_main_branch_is_what_is_written(runs: Path, lq: Path, tmp_path: Path) -> None:
    network = load_trained(variant("parallel"), runs / "parallel")
    restore_folder(network, lq, tmp_path / "out")
    with torch.no_grad():
        branches = restore(network, tensor(read(lq / "a.png")))
    assert not torch.allclose(branches.texture, branches.main, atol=0.1)
    written = tensor(read(tmp_path / "out/a.png"))
    torch.testing.assert_close(written, branches.main.clamp(-1, 1), atol=1 / 127.5, rtol=0)


def test_the_command_restores_and_evaluate_measures(
    runs: Path, lq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, report = tmp_path / "out", tmp_path / "report.json"
    command = ["restore", "smoke_stage2", "--data", str(lq), "--threads", "1"]
    assert main([*command, "--run", str(runs / "parallel"), "--out", str(out)]) == 0
    measured = ["--restored", str(out), "--truth", str(lq), "--metrics", "psnr"]
    assert main(["evaluate", *measured, "--out", str(report)]) == 0
    assert set(json.loads(report.read_text())["results"]["psnr"]["each"]) == {"a", "b", "more/c"}
    # A checkpoint by itself and the exported network do as well.
    for file, most in (("checkpoint.pt", 0), ("network.safetensors", 2)):
        again = tmp_path / file
        assert main([*command, "--run", str(runs / "parallel" / file), "--out", str(again)]) == 0
        apart = read(again / "a.png").astype(int) - read(out / "a.png")
        assert np.abs(apart).max() <= most
    monkeypatch.chdir(tmp_path)
    assert main([*command, "--run", "nowhere", "--out", "new"]) == 2
    assert main(["restore", "smoke", *command[2:], "--run", str(runs), "--out", "new"]) == 2
    assert not (tmp_path / "new").exists()


def test_another_recipe_s_run_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a run of simple, whose network is not smoke_stage1's"):
        load_trained(variant("stage1"), runs / "simple")
    with pytest.raises(ValueError, match="is a run of smoke_stage1, whose network is not smoke_st"):
        load_trained(variant("parallel"), runs / "stage1")
    with pytest.raises(ValueError, match="is a run of smoke_stage2, whose network is not simple's"):
        load_trained(variant("simple"), runs / "parallel" / "checkpoint.pt")
    wide = find_recipe("lite_stage2")
    assert isinstance(wide, Recipe)
    with pytest.raises(ValueError, match="whose network is not lite_stage2's"):
        load_trained(wide, runs / "parallel")
    lone = tmp_path / "lone.pt"
    lone.write_bytes((runs / "parallel/checkpoint.pt").read_bytes())
    with pytest.raises(ValueError, match=r"lone\.pt holds another network than the SimVqfr"):
        load_trained(variant("simple"), lone)
    with pytest.raises(ValueError, match="no checkpoint at"):
        load_trained(variant("simple"), tmp_path)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        load_trained(variant("simple"), tmp_path / "nowhere")


def test_nothing_is_written_where_something_is_wrong(
    runs: Path, lq: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, out = load_trained(variant("stage1"), runs / "stage1"), tmp_path / "out"
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes((lq / "a.png").read_bytes())
    cv2.imwrite(str(mixed / "b.png"), np.zeros((64, 60, 3), np.uint8))
    with pytest.raises(ValueError, match=r"b\.png is 60x64, not 64x64"):
        restore_folder(network, mixed, out)
    (mixed / "b.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"b\.png is not a readable picture"):
        restore_folder(network, mixed, out)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        restore_folder(network, tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match="lies in"):
        restore_folder(network, lq, lq / "out")
    monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    with pytest.raises(OSError, match=r"out: cannot be written: a\.png could not be written"):
        restore_folder(network, lq, out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mixed"]
    out.mkdir()
    (out / "mine.txt").touch()
    with pytest.raises(ValueError, match="is there already"):
        restore_folder(network, lq, out)
    with pytest.raises(ValueError, match="is there already"):
        restore_folder(network, lq, out / "mine.txt")


def test_what_a_killed_one_left_is_replaced(runs: Path, lq: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial/old.png").touch()
    (tmp_path / "out").mkdir()  # empty: as good as absent
    network = load_trained(variant("stage1"), runs / "stage1")
    assert restore_folder(network, lq, tmp_path / "out") == 3
    assert not (tmp_path / "out/old.png").exists()
    assert not (tmp_path / "out.partial").exists()
