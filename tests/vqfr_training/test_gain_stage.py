"""The band gains: what is kept of a face, what is learned, and that nothing else changes."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor
from vqfr_training.__main__ import main
from vqfr_training.configs import GainRecipe, Gains, Stage2
from vqfr_training.data.photographs import Photographs, pair, to_tensor
from vqfr_training.distributed import DistributedContext
from vqfr_training.loop import load_averaged, run
from vqfr_training.recipes import in_precision, smoke_gains, smoke_stage1, smoke_stage2
from vqfr_training.records import read_checkpoint
from vqfr_training.stage import place
from vqfr_training.step import make_optimisers, train_step
from vqfr_training.vqfr.gain_stage import GainStage
from vqfr_training.vqfr.losses import missing_detail
from vqfr_training.vqfr.networks import parameter_groups, place_network, restoration_network
from vqfr_training.vqfr.prepared_faces import (
    PreparedBatch,
    PreparedFaces,
    from_levels,
    to_levels,
)

from tests.vqfr_training.logs import losses
from vqfr_media.network.band_gains import BandGains
from vqfr_media.network.checkpoint import load_network, save_network
from vqfr_media.network.vqfr_v1 import VqfrV1

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported network without gains whose main branch draws something."""
    torch.manual_seed(3)
    network = VqfrV1(smoke_stage2().network)
    for parameter in network.main_decoder.conv_out.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    path = tmp_path_factory.mktemp("trained") / "network.safetensors"
    save_network(path, network)
    return path


@pytest.fixture(scope="module")
def whole(drawn_faces: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "gains"
    run(smoke_gains(), data=drawn_faces, out=out, start_from=trained)
    return out


def stage_of(data: Path, trained: Path, faces: Path, recipe: GainRecipe | None = None) -> GainStage:
    return GainStage(
        smoke_gains() if recipe is None else recipe,
        data=data,
        faces=faces,
        device=CPU,
        start=load_network(trained).state_dict(),
    )


def first(stage: GainStage, step: int = 0) -> PreparedBatch:
    stream = stage.batches(first_step=step, workers=1)
    batch = next(stream)
    stream.close()
    return batch


def arrays(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy") for name in ("lq", "main", "hq", "done")}


def test_a_resumed_run_is_the_uninterrupted_one(
    drawn_faces: Path, trained: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run(smoke_gains(), data=drawn_faces, out=out, start_from=trained, stop_after=4)
    assert arrays(out / "faces")["done"].sum() == 8  # two a step, none made ahead of its step
    run(smoke_gains(), data=drawn_faces, out=out, start_from=trained, resume=True, workers=3)
    assert losses(out) == losses(whole)
    expected = load_averaged(whole)
    for name, value in load_averaged(out).items():
        assert torch.equal(value, expected[name]), name
    assert (out / "network.safetensors").read_bytes() == (
        whole / "network.safetensors"
    ).read_bytes()


def test_only_the_gains_change(trained: Path, whole: Path) -> None:
    before, after = load_network(trained).state_dict(), load_network(whole / "network.safetensors")
    assert isinstance(after, VqfrV1)
    assert after.config == smoke_gains().network
    gains = {name for name in after.state_dict() if name not in before}
    assert gains == {f"band_gains.{name}" for name in after.band_gains.state_dict()}
    for name, value in before.items():
        assert torch.equal(after.state_dict()[name], value), name
    assert after.band_gains.conv_out.weight.abs().max() > 0
    assert {path.name for path in (whole / "faces").iterdir()} == {
        "lq.npy",
        "main.npy",
        "hq.npy",
        "done.npy",
    }


def test_the_first_step_draws_what_was_restored_and_the_loss_falls(whole: Path) -> None:
    lines = [line for line in losses(whole) if "total" in line]
    assert lines[0]["gain_db"] == 0
    assert lines[6]["gain_db"] > 0
    # All twelve faces in either half.
    halves = [np.mean([line["total"] for line in part]) for part in (lines[:6], lines[6:])]
    assert halves[1] < halves[0]


def test_what_is_kept_is_the_sample_and_what_the_network_without_gains_draws(
    drawn_faces: Path, trained: Path, whole: Path
) -> None:
    recipe, kept = smoke_gains(), arrays(whole / "faces")
    network = load_network(trained)
    place_network(network, CPU)
    photographs = Photographs(drawn_faces / "train", size=64)
    assert kept["done"].all()
    for number in (0, 7):
        lq, hq = pair(
            photographs,
            number,
            seed=recipe.seed,
            augmentation=recipe.augmentation,
            degradation=recipe.degradation,
        )
        np.testing.assert_array_equal(kept["lq"][number].transpose(1, 2, 0) / np.float32(255), lq)
        np.testing.assert_array_equal(kept["hq"][number].transpose(1, 2, 0), np.rint(hq * 255))
        with torch.no_grad():
            main = network(place(to_tensor([lq]), CPU)).main[0].half()
        assert torch.equal(torch.from_numpy(kept["main"][number]), main)


def test_a_step_by_hand(drawn_faces: Path, trained: Path, tmp_path: Path) -> None:
    recipe = replace(smoke_gains(), stage=Gains(faces=12, crop=32, detail=0.25))
    stage = stage_of(drawn_faces, trained, tmp_path / "faces", recipe)
    torch.nn.init.constant_(cast(Tensor, stage.network.band_gains.conv_out.bias), -0.3)
    batch = first(stage)
    found = stage.step(batch, 0)
    with torch.no_grad():
        drawn = stage.network.band_gains(batch.lq, batch.main)

    def decibels(images: Tensor, *, floor: float = 0.0) -> float:
        apart = (images.numpy().astype(np.float64) - batch.hq.numpy()) / 2
        return float(np.mean(10 * np.log10((apart**2).mean(axis=(1, 2, 3)) + floor)))

    lacking = missing_detail(drawn, batch.hq).item()
    assert lacking > 0.1
    assert found["missing_detail_db"].item() == pytest.approx(lacking, abs=1e-4)
    expected = decibels(drawn, floor=2e-6) + 0.25 * lacking
    assert found["total"].item() == pytest.approx(expected, abs=1e-4)
    gained = decibels(batch.main.clamp(-1, 1)) - decibels(drawn.clamp(-1, 1))
    assert found["gain_db"].item() == pytest.approx(gained, abs=1e-4)
    assert abs(gained) > 0.01


def test_each_epoch_sees_a_square_of_every_face_and_half_are_mirrored(
    drawn_faces: Path, trained: Path, whole: Path
) -> None:
    recipe = replace(smoke_gains(), batch=8, accumulate=2)
    stage = stage_of(drawn_faces, trained, whole / "faces", recipe)
    seen = [number for step in range(3) for number in stage.numbers(step)]
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]
    kept, batch = arrays(whole / "faces"), first(stage, 2)
    generator = np.random.default_rng([recipe.seed, 2, 1])
    turned = generator.random(8) < 0.5
    corners = generator.integers(0, 64 - 32 + 1, (8, 2))
    assert 0 < turned.sum() < 8
    assert len(np.unique(corners, axis=0)) > 4
    for i, number in enumerate(seen[16:]):
        way = -1 if turned[i] else 1
        top, left = corners[i]
        square = np.s_[:, top : top + 32, left : left + 32]
        for images, name in ((batch.lq, "lq"), (batch.hq, "hq")):
            levels = np.rint((images[i].numpy() + 1) * 127.5)
            np.testing.assert_array_equal(levels, kept[name][number][..., ::way][square])
        np.testing.assert_array_equal(batch.main[i], kept["main"][number][..., ::way][square])
    parts = stage.parts(batch)
    assert [len(part.hq) for part in parts] == [4, 4]
    assert torch.equal(torch.cat([part.main for part in parts]), batch.main)


def test_faces_from_elsewhere_are_used(drawn_faces: Path, trained: Path, tmp_path: Path) -> None:
    out, generator = tmp_path / "run", np.random.default_rng(0)
    faces = PreparedFaces(out / "faces", count=12, size=64)
    for number in range(12):
        lq, hq = generator.integers(0, 256, (2, 3, 64, 64), np.uint8)
        faces.keep(number, lq=lq, main=np.full((3, 64, 64), 0.25, np.float16), hq=hq)
    before = arrays(out / "faces")
    stage = stage_of(drawn_faces, trained, out / "faces")
    assert torch.equal(first(stage).main, torch.full((2, 3, 32, 32), 0.25))
    run(smoke_gains(), data=drawn_faces, out=out, start_from=trained, stop_after=2)
    for name, values in arrays(out / "faces").items():
        np.testing.assert_array_equal(values, before[name])


def test_faces_that_do_not_fit_are_refused(
    drawn_faces: Path, trained: Path, whole: Path, tmp_path: Path
) -> None:
    more = replace(smoke_gains(), stage=Gains(faces=13, crop=32))
    with pytest.raises(ValueError, match=r"lq.npy holds uint8 \(12, 3, 64, 64\), not uint8 \(13"):
        stage_of(drawn_faces, trained, whole / "faces", more)
    shutil.copytree(whole / "faces", tmp_path / "run/faces")
    (tmp_path / "run/faces/hq.npy").unlink()
    with pytest.raises(ValueError, match=r"hq.npy cannot be used: .* remove"):
        run(smoke_gains(), data=drawn_faces, out=tmp_path / "run", start_from=trained)
    (tmp_path / "run/faces/hq.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"hq.npy cannot be used: .* remove"):
        run(smoke_gains(), data=drawn_faces, out=tmp_path / "run", start_from=trained)
    whole_file = (whole / "faces/hq.npy").read_bytes()
    for content, reason in ((whole_file[:-1], "cannot be used"), (whole_file + b"0", "has .* byt")):
        (tmp_path / "run/faces/hq.npy").write_bytes(content)
        with pytest.raises(ValueError, match=rf"hq.npy {reason}.* remove"):
            run(smoke_gains(), data=drawn_faces, out=tmp_path / "run", start_from=trained)
        assert (tmp_path / "run/faces/hq.npy").read_bytes() == content
    assert not (tmp_path / "run/run.json").exists()


@pytest.mark.parametrize("name", ["lq", "main", "hq"])
def test_pictures_without_a_word_on_which_are_done_are_kept(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.npy").write_bytes(b"made elsewhere")
    with pytest.raises(ValueError, match=rf"has {name}.npy but no done.npy: write .* or remove"):
        PreparedFaces(tmp_path, count=2, size=8)
    assert (tmp_path / f"{name}.npy").read_bytes() == b"made elsewhere"


def test_a_disk_without_room_is_refused(tmp_path: Path) -> None:
    levels = np.zeros((3, 64, 64), np.uint8)
    faces = PreparedFaces(tmp_path / "faces", count=10**12, size=64)
    # 3 · 64² · (1 + 1 + 2) + 1 bytes each.
    with pytest.raises(ValueError, match=r"need 49153000\.0 GB, and .*faces has [0-9.]+ GB free"):
        faces.keep(0, lq=levels, main=levels.astype(np.float16), hq=levels)
    assert not list((tmp_path / "faces").iterdir())


def test_levels_of_an_image_of_8_bits_are_its_values() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = np.asarray(levels / np.float32(255), np.float32)
    assert torch.equal(from_levels(to_levels(image))[None], to_tensor([image]))


@pytest.mark.parametrize("kind", ["", "checkpoint.pt", "network.safetensors"])
def test_a_network_with_gains_goes_on_from_them(
    kind: str, drawn_faces: Path, whole: Path, tmp_path: Path
) -> None:
    recipe = replace(smoke_gains(), steps=1, warmup_steps=0, learning_rate=1e-12, seed=5)
    run(recipe, data=drawn_faces, out=tmp_path / "run", start_from=whole / kind)
    expected = load_averaged(whole)
    for name, value in load_averaged(tmp_path / "run").items():
        torch.testing.assert_close(value, expected[name], atol=1e-3, rtol=1e-3)
    assert losses(tmp_path / "run")[0]["gain_db"] != 0


DIRECTED = [f"directed.{layer}" for layer in ("conv_in", "conv_out")]
FINE = [f"fine.{layer}" for layer in ("conv_in", "coarse", "conv_mid", "conv_out")]


@pytest.mark.parametrize("kind", ["checkpoint.pt", "network.safetensors"])
@pytest.mark.parametrize(("directed", "layers"), [(False, DIRECTED + FINE), (True, FINE)])
def test_gains_go_on_with_layers_that_join_them(
    directed: bool,
    layers: list[str],
    kind: str,
    drawn_faces: Path,
    trained: Path,
    tmp_path: Path,
) -> None:
    recipe = replace(smoke_gains(), steps=2, warmup_steps=0)
    network = replace(recipe.network, directed_gains=directed, fine_gains=False)
    plain = replace(recipe, network=network)
    run(plain, data=drawn_faces, out=tmp_path / "plain", start_from=trained)
    start = tmp_path / "plain" / kind
    slow = replace(recipe, learning_rate=1e-12, seed=5)  # weights not taken would be others
    run(slow, data=drawn_faces, out=tmp_path / "run", start_from=start)
    learned, expected = load_averaged(tmp_path / "run"), load_averaged(tmp_path / "plain")
    for name, value in expected.items():
        torch.testing.assert_close(learned[name], value, atol=1e-3, rtol=1e-3)
    assert losses(tmp_path / "run")[0]["gain_db"] != 0
    added = learned.keys() - expected.keys()
    assert added == {
        f"band_gains.{layer}.{part}" for layer in layers for part in ("weight", "bias")
    }
    torch.manual_seed(5)
    seeded = VqfrV1(recipe.network).state_dict()
    for name in added:
        torch.testing.assert_close(learned[name], seeded[name], atol=1e-6, rtol=0)
    joined = re.escape("band_gains." + layers[0].split(".")[0] + ".")
    with pytest.raises(ValueError, match=joined):  # not the other way
        run(plain, data=drawn_faces, out=tmp_path / "other", start_from=tmp_path / "run")


def test_without_gains_they_begin_as_the_seed_says(
    drawn_faces: Path, trained: Path, tmp_path: Path
) -> None:
    stage = stage_of(drawn_faces, trained, tmp_path / "faces")
    torch.manual_seed(smoke_gains().seed)
    expected = VqfrV1(smoke_gains().network).band_gains
    assert isinstance(expected, BandGains)
    for name, value in stage.network.band_gains.state_dict().items():
        assert torch.equal(value, expected.state_dict()[name]), name
    assert not stage.network.band_gains.conv_out.weight.any()
    learning = {id(p) for group in stage.parameter_groups() for p in group.parameters}
    assert learning == {id(p) for p in stage.network.parameters() if p.requires_grad}


def test_a_batch_in_parts_is_the_whole(drawn_faces: Path, trained: Path, whole: Path) -> None:
    found = []
    for accumulate in (1, 2):
        recipe = replace(smoke_gains(), batch=4, accumulate=accumulate)
        stage = stage_of(drawn_faces, trained, whole / "faces", recipe)
        found.append(train_step(stage, make_optimisers(stage), first(stage), 0))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-5)


def test_a_run_with_gains_is_restored(whole: Path, tmp_path: Path) -> None:
    (tmp_path / "lq").mkdir()
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "lq/a.png"), image)
    command = ["restore", "smoke_gains", "--run", str(whole), "--data", str(tmp_path / "lq")]
    assert main([*command, "--out", str(tmp_path / "out"), "--threads", "1"]) == 0
    network = VqfrV1(smoke_gains().network)
    network.load_state_dict(load_averaged(whole))
    place_network(network, CPU)
    given = np.asarray(image[..., ::-1] / np.float32(255), np.float32)
    with torch.no_grad():
        drawn = network(to_tensor([given])).main[0]
    expected = (drawn.clamp(-1, 1) + 1) * 127.5
    written = cv2.imread(str(tmp_path / "out/a.png"), cv2.IMREAD_COLOR_RGB)
    assert written is not None
    assert np.abs(written - expected.permute(1, 2, 0).numpy()).max() < 0.6


def test_in_stage_2_gains_learn_with_the_main_branch() -> None:
    stage = cast(Stage2, smoke_stage2().stage)
    network = restoration_network(smoke_gains().network, stage)
    assert isinstance(network, VqfrV1)
    _, main_branch = parameter_groups(network, stage, (0.9, 0.99))
    learning = {id(parameter) for parameter in main_branch.parameters}
    for module in (network.band_gains, network.main_decoder):
        assert {id(parameter) for parameter in module.parameters()} <= learning


def test_runs_of_versions_without_gains_are_restored(drawn_faces: Path, tmp_path: Path) -> None:
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "run", stop_after=1)
    record = tmp_path / "run/run.json"
    described = json.loads(record.read_text())
    del described["recipe"]["network"]["gain_channels"]
    del described["recipe"]["network"]["directed_gains"]
    del described["recipe"]["network"]["fine_gains"]
    record.write_text(json.dumps(described))
    command = ["restore", "smoke_stage1", "--run", str(tmp_path / "run"), "--threads", "1"]
    (tmp_path / "lq").mkdir()
    cv2.imwrite(str(tmp_path / "lq/a.png"), np.zeros((64, 64, 3), np.uint8))
    assert main([*command, "--data", str(tmp_path / "lq"), "--out", str(tmp_path / "out")]) == 0


def test_runs_of_versions_without_gains_and_mild_damage_are_resumed(
    drawn_faces: Path, tmp_path: Path
) -> None:
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "run", stop_after=1)
    record = tmp_path / "run/run.json"
    described = json.loads(record.read_text())
    del described["recipe"]["network"]["gain_channels"]
    del described["recipe"]["network"]["directed_gains"]
    del described["recipe"]["network"]["fine_gains"]
    del described["recipe"]["degradation"]["mild"]
    del described["recipe"]["degradation"]["single"]
    record.write_text(json.dumps(described))
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "run", resume=True, stop_after=2)
    assert read_checkpoint(tmp_path / "run")["step"] == 2
    other = replace(smoke_stage1(), degradation=replace(smoke_stage1().degradation, mild=0.5))
    with pytest.raises(ValueError, match="another configuration"):
        run(other, data=drawn_faces, out=tmp_path / "run", resume=True)


@pytest.mark.parametrize("directed", [False, True])
def test_runs_of_gains_of_earlier_versions_go_on(
    directed: bool, drawn_faces: Path, trained: Path, tmp_path: Path
) -> None:
    """Of versions without directions, and of those with them but without fine gains."""
    recipe = smoke_gains()
    network = replace(recipe.network, directed_gains=directed, fine_gains=False)
    plain = replace(recipe, network=network)
    out = tmp_path / "run"
    run(plain, data=drawn_faces, out=out, start_from=trained, stop_after=1)
    record = out / "run.json"
    described = json.loads(record.read_text())
    if not directed:
        del described["recipe"]["network"]["directed_gains"]
    del described["recipe"]["network"]["fine_gains"]
    del described["recipe"]["degradation"]["single"]
    record.write_text(json.dumps(described))
    run(plain, data=drawn_faces, out=out, start_from=trained, resume=True, stop_after=2)
    assert read_checkpoint(out)["step"] == 2
    with pytest.raises(ValueError, match="another configuration"):
        run(recipe, data=drawn_faces, out=out, start_from=trained, resume=True)


def test_an_export_of_another_configuration_is_refused(
    drawn_faces: Path, trained: Path, tmp_path: Path
) -> None:
    config = replace(smoke_stage2().network, predict_residual=False, norm_groups=2)
    network = VqfrV1(config)
    network.load_state_dict(load_network(trained).state_dict())  # the shapes are the same
    path = tmp_path / "network.safetensors"
    save_network(path, network)
    with pytest.raises(ValueError, match=r"norm_groups 2, not .; predict_residual False, not True"):
        run(smoke_gains(), data=drawn_faces, out=tmp_path / "run", start_from=path)
    assert not (tmp_path / "run").exists()


def test_wrong_starts_are_refused(
    drawn_faces: Path, trained: Path, whole: Path, tmp_path: Path
) -> None:
    recipe, out = smoke_gains(), tmp_path / "run"
    with pytest.raises(ValueError, match="smoke_gains goes on from a trained network: give --sta"):
        run(recipe, data=drawn_faces, out=out)
    run(smoke_stage1(), data=drawn_faces, out=tmp_path / "one", stop_after=1)
    with pytest.raises(ValueError, match="--init has no effect"):
        run(recipe, data=drawn_faces, out=out, start_from=trained, init=tmp_path / "one")
    with pytest.raises(ValueError, match="than the VqfrV1 expected here"):
        run(recipe, data=drawn_faces, out=out, start_from=tmp_path / "one")
    wider = replace(recipe, network=replace(recipe.network, gain_channels=16))
    with pytest.raises(ValueError, match="band_gains"):
        run(wider, data=drawn_faces, out=out, start_from=whole)
    assert not out.exists()
    with pytest.raises(ValueError, match="another configuration"):
        run(replace(recipe, seed=8), data=drawn_faces, out=whole, start_from=trained, resume=True)
    with pytest.raises(ValueError, match="started with another --start-from"):
        run(recipe, data=drawn_faces, out=whole, start_from=whole, resume=True)


def test_wrong_configurations_are_refused(drawn_faces: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="faces must be at least 1, got 0"):
        Gains(faces=0, crop=32)
    for crop in (0, 12):
        with pytest.raises(ValueError, match=f"crop must be a multiple of 8 above 0, got {crop}"):
            Gains(faces=1, crop=crop)
    with pytest.raises(ValueError, match="detail must not be negative, got -1"):
        Gains(faces=1, crop=32, detail=-1.0)
    with pytest.raises(ValueError, match="crop must be at most the 64 px of a face, got 128"):
        replace(smoke_gains(), stage=Gains(faces=1, crop=128))
    with pytest.raises(ValueError, match="gain_channels must be above 0"):
        replace(smoke_gains(), network=smoke_stage2().network)
    with pytest.raises(ValueError, match="smoke_gains computes in float32 alone, not bfloat16"):
        in_precision(smoke_gains(), "bfloat16")
    ranks = DistributedContext(device=CPU, world_size=2, fabric=cast(Any, object()))
    with pytest.raises(ValueError, match="one process alone"):
        GainStage(
            smoke_gains(),
            data=drawn_faces,
            faces=tmp_path,
            device=CPU,
            start=load_network(trained).state_dict(),
            context=ranks,
        )
