"""The loop that runs a recipe: one for VQFR's stages and for the face detector.

A run folder holds `run.json` (recipe, versions, commit), `log.jsonl` (one object a line),
`samples_*.png`, `checkpoint.pt` (everything to go on exactly) and, at the end,
`network.safetensors` (the averaged weights as the package loads them), of VQFR and the detector.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vqfr_training.board import open_board
from vqfr_training.configs import DetectorRecipe, Recipe, Stage1, VqRecipe
from vqfr_training.data.sources import find_pieces
from vqfr_training.detector.detector import DetectorStage
from vqfr_training.detector.retinaface import RetinaFace
from vqfr_training.records import (
    append_log,
    describe_run,
    fingerprint,
    load_fitting,
    log_length,
    read_checkpoint,
    save_whole,
    take_back_log,
    write_whole,
)
from vqfr_training.records import load_averaged as load_averaged
from vqfr_training.scale import Team, alone
from vqfr_training.stage import Stage
from vqfr_training.step import Optimisers, make_optimisers, train_step
from vqfr_training.vqfr.networks import codebook_network, restoration_network
from vqfr_training.vqfr.stages import Beginning
from vqfr_training.vqfr.vq_stage import VqStage

logger = logging.getLogger(__name__)


def run(
    recipe: VqRecipe | DetectorRecipe,
    *,
    data: Path,
    out: Path,
    init: Path | None = None,
    start_from: Path | None = None,
    vgg: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    stop_after: int | None = None,
    team: Team | None = None,
) -> dict[str, float]:
    """Train `recipe` on `data`/train into the run folder `out`; returns the last validation.

    Args:
        data: folder with `train` and `val`, each of aligned 768 px photographs.
        out: run folder; must not hold a run unless `resume`.
        init: run folder or checkpoint of stage 1, whose averaged weights stage 2 needs; or the
            authors' published codebook.
        start_from: run folder or checkpoint of the same stage to go on from, its averaged weights;
            or the authors' published network.
        vgg: file of VGG-16's weights, for recipes with VGG-16 features; else fetched.
        resume: go on from `out`/checkpoint.pt, or from the beginning where the run ended before
            its first checkpoint; the rest is what an uninterrupted run would do.
        workers: threads that prepare samples.
        team: the ranks that share each batch; this process alone where None.
        stop_after: leave after this many steps of the whole run, with a checkpoint.

    Raises:
        ValueError: something given does not fit the recipe, or the run to be resumed.
    """
    team = alone() if team is None else team
    first = None if init is None else load_fitting(init, _begun_from(recipe, stage1=True))
    begun = None if start_from is None else load_fitting(start_from, _begun_from(recipe))
    stage = _build(recipe, data=data, team=team, first=first, begun=begun, vgg=vgg)
    _share(stage, team)
    optimisers = make_optimisers(stage)
    content = {
        "init_sha256": None if first is None else fingerprint(first),
        "start_from_sha256": None if begun is None else fingerprint(begun),
        # The leader's to find out: over the network, a listing of many files takes its time.
        "pictures": _count_pictures(recipe, data) if team.leads else None,
    }
    described = describe_run(recipe, data=data, init=init, start_from=start_from, content=content)
    first_step = _open(out, stage, optimisers, resume=resume, described=described, team=team)
    board = open_board(out, done=first_step) if team.leads else None
    stream = stage.batches(first_step=first_step, workers=workers, rank=team.rank, ranks=team.ranks)
    measured: dict[str, float] = {}
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    saved = began = time.monotonic()
    for number in tqdm(
        range(first_step, last),
        initial=first_step,
        total=recipe.steps,
        mininterval=10,
        disable=not team.leads,
    ):
        if (prepared := stage.prepare(number)) and team.leads:
            append_log(out, {"step": number, **prepared})
        losses = train_step(stage, optimisers, next(stream), number, team=team)
        done = number + 1
        if not team.leads:
            continue
        if done % recipe.log_every == 0 or done == last:
            seconds = (time.monotonic() - began) / (done - first_step)
            values = {name: float(value.detach()) for name, value in losses.items()}
            append_log(out, {"step": done, **values, "seconds_a_step": seconds})
            if board is not None:
                board.scalars({f"losses/{name}": value for name, value in values.items()}, done)
        if done % recipe.validate_every == 0 or done == recipe.steps:
            picture = out / f"samples_{done:06d}.png"
            measured = stage.validate(picture)
            append_log(out, {"step": done, **measured})
            if board is not None:
                board.scalars({f"validation/{k}": value for k, value in measured.items()}, done)
                board.picture(picture, done)
            logger.info("step %d: %s", done, json.dumps(measured))
        if done == last or time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
            state = _state(stage, optimisers, done) | {"log_length": log_length(out)}
            save_whole(state, out / "checkpoint.pt")
            saved = time.monotonic()
    stream.close()
    if board is not None:
        board.close()
    if last == recipe.steps and team.leads:
        stage.export(out / "network.safetensors")
    team.wait()
    return measured


def _begun_from(recipe: VqRecipe | DetectorRecipe, *, stage1: bool = False) -> nn.Module:
    """The network whose weights `--start-from` is to hold, or `--init` if `stage1`; no values."""
    with torch.device("meta"):
        if isinstance(recipe, DetectorRecipe):
            return RetinaFace()
        if stage1 or isinstance(recipe.stage, Stage1):
            return codebook_network(recipe.network)
        return restoration_network(recipe.network, recipe.stage)


def _count_pictures(recipe: VqRecipe | DetectorRecipe, data: Path) -> int | None:
    """On how many there are depends what sample i is; the detector's are another matter."""
    return len(find_pieces(data / "train")) if isinstance(recipe, Recipe) else None


def _build(
    recipe: VqRecipe | DetectorRecipe,
    *,
    data: Path,
    team: Team,
    first: dict[str, Tensor] | None,
    begun: dict[str, Tensor] | None,
    vgg: Path | None,
) -> Stage[Any]:
    match recipe:
        case Recipe():
            beginning = Beginning(stage1=first, network=begun, vgg=vgg)
            return VqStage(recipe, data=data, device=team.device, beginning=beginning, team=team)
        case DetectorRecipe():
            return DetectorStage(
                recipe, data=data, device=team.device, init=first if begun is None else begun
            )


def _open(
    out: Path,
    stage: Stage[Any],
    optimisers: Optimisers,
    *,
    resume: bool,
    described: dict[str, Any],
    team: Team,
) -> int:
    """Make a new run folder, or load an old one's checkpoint; returns the first step to do."""
    recipe = stage.recipe
    record = out / "run.json"
    if not resume:
        if record.exists():
            raise ValueError(f"{out} holds a run already: give --resume or another folder")
        team.wait()  # until every rank has looked
        if team.leads:
            out.mkdir(parents=True, exist_ok=True)
            write_whole(json.dumps(described, indent=1) + "\n", record)
        return 0
    if not record.is_file():
        raise ValueError(f"{out} holds no run to resume")
    recorded = json.loads(record.read_text())
    if recorded["recipe"] != json.loads(json.dumps(asdict(recipe))):
        raise ValueError(f"{out} was begun with another configuration of {recipe.name}")
    _check_same(out, recorded, described)
    if not (out / "checkpoint.pt").is_file():
        if team.leads:
            logger.info("%s ended before its first checkpoint: it begins anew", out)
            (out / "log.jsonl").unlink(missing_ok=True)
        return 0
    state = read_checkpoint(out)
    stage.network.load_state_dict(state["network"])
    stage.averaged.load_state_dict(state["averaged"])
    optimisers.network.load_state_dict(state["adam"])
    if stage.critics is not None and optimisers.critics is not None:
        stage.critics.load_state_dict(state["critics"])
        optimisers.critics.load_state_dict(state["critic_adam"])
    stage.load_extra_state(state)
    # What was done after the checkpoint is done, and logged, again.
    if team.leads and "log_length" in state:
        take_back_log(out, length=state["log_length"])
    return int(state["step"])


def _check_same(out: Path, recorded: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuse to go on from other weights or pictures than the run in `out` began with.

    Runs of older versions have not recorded them; only the leading rank has counted pictures.
    """
    for name, flag, what in (
        ("init_sha256", "--init", "weights"),
        ("start_from_sha256", "--start-from", "weights"),
        ("pictures", "--data", "number of training pictures"),
    ):
        unknown = name not in recorded or (name == "pictures" and now[name] is None)
        if not unknown and recorded[name] != now[name]:
            raise ValueError(
                f"{out} was begun with another {flag}: {what} {recorded[name]}, now {now[name]}; "
                "give the same, or another --out"
            )


def _share(stage: Stage[Any], team: Team) -> None:
    """Every rank begins with the leader's weights."""
    for module in (stage.network, stage.averaged, stage.critics):
        if module is not None:
            team.share(module.state_dict().values())


def _state(stage: Stage[Any], optimisers: Optimisers, done: int) -> dict[str, Any]:
    state = {
        "step": done,
        "network": stage.network.state_dict(),
        "averaged": stage.averaged.state_dict(),
        "adam": optimisers.network.state_dict(),
        **stage.extra_state(),
    }
    if stage.critics is not None and optimisers.critics is not None:
        state["critics"] = stage.critics.state_dict()
        state["critic_adam"] = optimisers.critics.state_dict()
    return state
