"""The loop that runs a recipe: one for VQFR's stages and for the face detector.

A run folder holds `run.json` (recipe, versions, commit), `log.jsonl` (one object a line),
`samples_*.png`, `checkpoint.pt` (everything to go on exactly) and, at the end,
`network.safetensors` (the averaged weights as the package loads them), of VQFR and the detector.
"""

import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vqfr_media.backends.nvidia_gpu import check_bfloat16
from vqfr_media.files import remove_leftovers, write_text
from vqfr_media.network.config import VqfrV1Config
from vqfr_training.configs import (
    DetectorRecipe,
    GainRecipe,
    Recipe,
    RecipeSeries,
    SingleRecipe,
    Stage1,
)
from vqfr_training.data.layout import Data, find_sources, parts
from vqfr_training.detector.detector import DetectorStage
from vqfr_training.detector.retinaface import RetinaFace
from vqfr_training.distributed import DistributedContext, single_process
from vqfr_training.records import (
    append_log,
    describe_run,
    fingerprint,
    load_exported,
    load_fitting,
    load_with_or_without_gains,
    log_length,
    read_checkpoint,
    save_checkpoint,
    truncate_log,
    with_later_fields,
)
from vqfr_training.records import load_averaged as load_averaged
from vqfr_training.stage import TrainingStage
from vqfr_training.step import Optimisers, make_optimisers, train_step
from vqfr_training.tensorboard_logger import open_tensorboard_logger
from vqfr_training.vqfr.gain_stage import GainStage
from vqfr_training.vqfr.networks import codebook_network, gains_network, restoration_network
from vqfr_training.vqfr.stages import InitialWeights
from vqfr_training.vqfr.vq_stage import VqStage

logger = logging.getLogger(__name__)


def run(
    recipe: SingleRecipe,
    *,
    data: Data,
    out: Path,
    init: Path | None = None,
    start_from: Path | None = None,
    vgg: Path | None = None,
    identity: Path | None = None,
    resume: bool = False,
    workers: int = 1,
    stop_after: int | None = None,
    deadline: float | None = None,
    context: DistributedContext | None = None,
) -> dict[str, float]:
    """Trains `recipe` on `data`/train into the run folder `out`; returns the last validation.

    Args:
        data: folder with `train` and `val`, each of aligned photographs; or several such folders.
        out: run folder; must not hold a run unless `resume`.
        init: run folder or checkpoint of stage 1, whose averaged weights stage 2 needs; or the
            authors' published codebook.
        start_from: run folder or checkpoint of the same stage to go on from, its averaged weights;
            or the authors' published network.
        vgg: file of VGG-16's weights, for recipes with VGG-16 features; else fetched.
        identity: file of dlib's face network, for recipes that compare identities.
        resume: go on from `out`/checkpoint.pt, or from the beginning where the run ended before
            its first checkpoint; the rest is what an uninterrupted run would do.
        workers: threads that prepare samples.
        context: the ranks that share each batch; this process alone where None.
        stop_after: leave after this many steps of the whole run, with a checkpoint.
        deadline: leave with a checkpoint after the first step that ends at or after this reading
            of `time.monotonic()`; one process alone.

    Raises:
        ValueError: something given does not fit the recipe, or the run to be resumed.
        BackendError: the GPU does not compute in the recipe's precision.
    """
    context = single_process() if context is None else context
    if deadline is not None and context.world_size > 1:
        raise ValueError("a time limit is for one process alone")
    if isinstance(recipe, GainRecipe) and init is not None:
        raise ValueError(f"{recipe.name} takes all of --start-from: --init has no effect")
    if recipe.precision == "bfloat16" and context.device.type == "cuda":
        check_bfloat16(
            torch.cuda.get_device_name(context.device),
            torch.cuda.get_device_capability(context.device),
        )
    init_weights = (
        None if init is None else load_fitting(init, _expected_network(recipe, stage1=True))
    )
    start_weights = None if start_from is None else _load_start(start_from, recipe, init_weights)
    stage = _build(
        recipe,
        data=data,
        out=out,
        context=context,
        init=init_weights,
        start=start_weights,
        vgg=vgg,
        identity=identity,
    )
    _broadcast_weights(stage, context)
    optimisers = make_optimisers(stage)
    content = {
        "init_sha256": None if init_weights is None else fingerprint(init_weights),
        "start_from_sha256": None if start_weights is None else fingerprint(start_weights),
        # Counted by rank 0 alone: over the network, a listing of many files takes its time.
        "pictures": _count_pictures(data) if context.is_main else None,
    }
    described = describe_run(recipe, data=data, init=init, start_from=start_from, content=content)
    first_step = _open(out, stage, optimisers, resume=resume, described=described, context=context)
    tensorboard = open_tensorboard_logger(out, done=first_step) if context.is_main else None
    stream = stage.batches(
        first_step=first_step, workers=workers, rank=context.rank, world_size=context.world_size
    )
    measured: dict[str, float] = {}
    last = recipe.steps if stop_after is None else min(stop_after, recipe.steps)
    saved = began = time.monotonic()
    for number in tqdm(
        range(first_step, last),
        initial=first_step,
        total=recipe.steps,
        mininterval=10,
        disable=not context.is_main,
    ):
        if (prepared := stage.prepare(number)) and context.is_main:
            append_log(out, {"step": number, **prepared})
        losses = train_step(stage, optimisers, next(stream), number, context=context)
        done = number + 1
        if not context.is_main:
            continue
        if done % recipe.log_every == 0 or done == last:
            seconds = (time.monotonic() - began) / (done - first_step)
            values = {name: float(value.detach()) for name, value in losses.items()}
            append_log(out, {"step": done, **values, "seconds_a_step": seconds})
            if tensorboard is not None:
                tensorboard.add_scalars(
                    {f"losses/{name}": value for name, value in values.items()}, done
                )
        if done % recipe.validate_every == 0 or done == recipe.steps:
            picture = out / f"samples_{done:06d}.png"
            measured = stage.validate(picture)
            append_log(out, {"step": done, **measured})
            if tensorboard is not None:
                tensorboard.add_scalars(
                    {f"validation/{k}": value for k, value in measured.items()}, done
                )
                tensorboard.add_picture(picture, done)
            logger.info("step %d: %s", done, json.dumps(measured))
        late = deadline is not None and time.monotonic() >= deadline
        if done == last or late or time.monotonic() - saved > 60 * recipe.checkpoint_minutes:
            state = _state(stage, optimisers, done) | {"log_length": log_length(out)}
            save_checkpoint(state, out / "checkpoint.pt")
            saved = time.monotonic()
        if late:
            last = done
            break
    stream.close()
    if tensorboard is not None:
        tensorboard.close()
    if last == recipe.steps and context.is_main:
        stage.export(out / "network.safetensors")
    context.barrier()
    return measured


def _load_start(
    start_from: Path, recipe: SingleRecipe, stage1: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """Returns the weights that `--start-from` names.

    Of an exported network, what of it fits the recipe and the weights of its `stage1`.
    """
    wanted = _expected_network(recipe)
    if isinstance(recipe, GainRecipe):
        return load_with_or_without_gains(start_from, wanted, recipe.network)
    v1 = isinstance(recipe, Recipe) and isinstance(recipe.network, VqfrV1Config)
    if v1 and start_from.suffix == ".safetensors":
        first = _expected_network(recipe, stage1=True)
        return load_exported(start_from, wanted, coded=first.state_dict().keys(), stage1=stage1)
    return load_fitting(start_from, wanted)


def _expected_network(recipe: SingleRecipe, *, stage1: bool = False) -> nn.Module:
    """Returns the network whose weights `--start-from` is to hold, or `--init` if `stage1`.

    No values.
    """
    with torch.device("meta"):
        if isinstance(recipe, DetectorRecipe):
            return RetinaFace()
        if isinstance(recipe, GainRecipe):
            return gains_network(recipe.network)
        if stage1 or isinstance(recipe.stage, Stage1):
            return codebook_network(recipe.network)
        return restoration_network(recipe.network, recipe.stage)


def _count_pictures(data: Data) -> int:
    """On how many there are depends what sample i is."""
    return sum(len(source.locations) for source in find_sources(parts(data, "train")))


def _build(
    recipe: SingleRecipe,
    *,
    data: Data,
    out: Path,
    context: DistributedContext,
    init: dict[str, Tensor] | None,
    start: dict[str, Tensor] | None,
    vgg: Path | None,
    identity: Path | None,
) -> TrainingStage[Any]:
    match recipe:
        case Recipe():
            initial_weights = InitialWeights(stage1=init, network=start, vgg=vgg, identity=identity)
            return VqStage(
                recipe,
                data=data,
                device=context.device,
                initial_weights=initial_weights,
                context=context,
            )
        case GainRecipe():
            return GainStage(
                recipe,
                data=data,
                faces=out / "faces",
                device=context.device,
                start=start,
                context=context,
            )
        case DetectorRecipe():
            return DetectorStage(
                recipe, data=data, device=context.device, init=init if start is None else start
            )


def _open(
    out: Path,
    stage: TrainingStage[Any],
    optimisers: Optimisers,
    *,
    resume: bool,
    described: dict[str, Any],
    context: DistributedContext,
) -> int:
    """Makes a new run folder, or load an old one's checkpoint; returns the first step to do."""
    recipe = stage.recipe
    record = out / "run.json"
    if not resume:
        if record.exists():
            raise ValueError(f"{out} holds a run already: give --resume or another folder")
        context.barrier()  # until every rank has looked
        if context.is_main:
            out.mkdir(parents=True, exist_ok=True)
            write_text(record, json.dumps(described, indent=1) + "\n")
        return 0
    if not record.is_file():
        raise ValueError(f"{out} holds no run to resume")
    recorded = json.loads(record.read_text())
    if with_later_fields(recorded["recipe"], recipe) != json.loads(json.dumps(asdict(recipe))):
        raise ValueError(
            f"{out} was started with another configuration of {recipe.name}, or by another version"
        )
    _check_same(out, recorded, described)
    if context.is_main:
        remove_leftovers(out / "checkpoint.pt")
    if not (out / "checkpoint.pt").is_file():
        if context.is_main:
            logger.info("%s ended before its first checkpoint: it starts again", out)
            (out / "log.jsonl").unlink(missing_ok=True)
        return 0
    state = read_checkpoint(out)
    stage.network.load_state_dict(state["network"])
    stage.averaged.load_state_dict(state["averaged"])
    optimisers.network.load_state_dict(state["adam"])
    if stage.discriminators is not None and optimisers.discriminators is not None:
        stage.discriminators.load_state_dict(state["discriminators"])
        optimisers.discriminators.load_state_dict(state["discriminator_adam"])
    stage.load_extra_state(state)
    # What was done after the checkpoint is done, and logged, again.
    if context.is_main and "log_length" in state:
        truncate_log(out, length=state["log_length"])
    return int(state["step"])


def _check_same(out: Path, recorded: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to go on from other weights or pictures than the run in `out` began with.

    Runs of older versions have not recorded them; only rank 0 has counted pictures.
    """
    for name, flag, what in (
        ("init_sha256", "--init", "weights"),
        ("start_from_sha256", "--start-from", "weights"),
        ("pictures", "--data", "number of training pictures"),
    ):
        unknown = name not in recorded or (name == "pictures" and now[name] is None)
        if not unknown and recorded[name] != now[name]:
            raise ValueError(
                f"{out} was started with another {flag}: {what} {recorded[name]}, now {now[name]}; "
                "give the same, or another --out"
            )


def _broadcast_weights(stage: TrainingStage[Any], context: DistributedContext) -> None:
    """Gives every rank the weights of rank 0."""
    for module in (stage.network, stage.averaged, stage.discriminators):
        if module is not None:
            context.broadcast(module.state_dict().values())


def _state(stage: TrainingStage[Any], optimisers: Optimisers, done: int) -> dict[str, Any]:
    state = {
        "step": done,
        "network": stage.network.state_dict(),
        "averaged": stage.averaged.state_dict(),
        "adam": optimisers.network.state_dict(),
        **stage.extra_state(),
    }
    if stage.discriminators is not None and optimisers.discriminators is not None:
        state["discriminators"] = stage.discriminators.state_dict()
        state["discriminator_adam"] = optimisers.discriminators.state_dict()
    return state


def _steps_done(run: Path) -> int:
    """Returns the steps that the checkpoint of a run folder holds; 0 before its first."""
    return int(read_checkpoint(run)["step"]) if (run / "checkpoint.pt").is_file() else 0


def run_series(
    series: RecipeSeries,
    *,
    data: Data,
    out: Path,
    vgg: Path | None,
    identity: Path | None = None,
    resume: bool,
    workers: int,
    deadline: float | None = None,
    context: DistributedContext | None = None,
) -> None:
    """Trains each recipe of `series` into `out`/its name, beginning from the one before.

    Args:
        series: what to train.
        data: as for `run`.
        out: folder of run folders.
        vgg: as for `run`.
        identity: as for `run`.
        resume: go on with runs that have started; the others start.
        workers: threads that prepare samples.
        deadline: as for `run`; recipes that have not started by then wait for the next call.
        context: as for `run`.
    """
    before: Path | None = None
    for recipe in series.recipes:
        folder = out / recipe.name
        resumes = resume and (folder / "run.json").is_file()
        complete = resumes and _steps_done(folder) == recipe.steps
        run(
            recipe,
            data=data,
            out=folder,
            init=before,
            vgg=vgg,
            identity=identity,
            resume=resumes,
            workers=workers,
            deadline=deadline,
            context=context,
        )
        before = folder
        # A run that an earlier call completed takes no step, and must not keep the next from its.
        if deadline is not None and not complete and time.monotonic() >= deadline:
            return
