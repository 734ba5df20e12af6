"""Restoring a folder of aligned faces with the averaged weights of a run.

Draws any trained network's pictures, for `evaluate` to measure; stage 1 and what only serves
comparison are not exported.
"""

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from vqfr_media.files import atomic_folder
from vqfr_training.configs import GainRecipe, Stage1, VqRecipe
from vqfr_training.data.photographs import to_pixels, to_tensor
from vqfr_training.data.picture_files import Picture, list_pictures, read_picture, size_of
from vqfr_training.records import EARLIER_GAINS, load_fitting
from vqfr_training.stage import place
from vqfr_training.vqfr.networks import (
    CodebookNetwork,
    RestorationNetwork,
    codebook_network,
    gains_network,
    place_network,
    restoration_network,
    restore,
)


def load_trained(
    recipe: VqRecipe | GainRecipe, trained: Path
) -> CodebookNetwork | RestorationNetwork:
    """Returns the network of `recipe` with a run's averaged weights, on the GPU where there is one.

    Args:
        recipe: what was trained, or another with the same network.
        trained: run folder, its checkpoint, or its `network.safetensors`.

    Raises:
        ValueError: there is no such run, or it trained another network.
    """
    if not trained.exists():
        raise ValueError(f"{trained} does not exist")
    _check_recorded(recipe, trained)
    network: CodebookNetwork | RestorationNetwork
    if isinstance(recipe, GainRecipe):
        network = gains_network(recipe.network)
    elif isinstance(recipe.stage, Stage1):
        network = codebook_network(recipe.network)
    else:
        network = restoration_network(recipe.network, recipe.stage)
    network.load_state_dict(load_fitting(trained, network))
    place_network(network, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    return network.eval()


def restore_folder(network: CodebookNetwork | RestorationNetwork, data: Path, out: Path) -> int:
    """Restores every picture below `data` into a PNG of the same name in `out`; returns how many.

    What is written is the main branch where there is one. `out` appears when all of it is there.

    Raises:
        ValueError: `out` holds something or lies in `data`, there are no pictures, or one of them
            is unreadable or has another size than the network's.
        OutputError: a picture cannot be written.
    """
    pictures = list_pictures(data)
    if out.resolve().is_relative_to(data.resolve()):
        raise ValueError(f"{out} lies in {data}: name a folder outside of it")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(f"{out} is there already: remove it or choose another folder")
    size = network.config.image_size
    with atomic_folder(out) as folder:
        for name, path in tqdm(pictures.items(), desc=data.name, mininterval=5):
            picture = read_picture(path)
            if picture.shape[:2] != (size, size):
                raise ValueError(f"{path} is {size_of(picture)}, not {size}x{size}")
            _write(folder / f"{name}.png", restore_picture(network, picture))
    return len(pictures)


@torch.inference_mode()
def restore_picture(network: CodebookNetwork | RestorationNetwork, lq: Picture) -> Picture:
    """Returns one aligned face of the network's size."""
    device = next(network.parameters()).device
    image = place(to_tensor([np.asarray(lq / np.float32(255))]), device)
    # Alone, for in a batch the last digits, and with them codes, depend on the others.
    drawn = restore(network, image).main[0].float().cpu()
    return to_pixels(drawn)


def _check_recorded(recipe: VqRecipe | GainRecipe, trained: Path) -> None:
    """Networks with weights of the same shapes may still differ; the run's record tells."""
    record = (trained if trained.is_dir() else trained.parent) / "run.json"
    if not record.is_file():  # the file lies elsewhere; the weights' shapes have to do
        return
    recorded = json.loads(record.read_text())["recipe"]
    given = json.loads(json.dumps(asdict(recipe)))
    for part in (recorded, given):
        part["variant"] = part["stage"].get("variant")  # only stage 2 has one
        part["network"] = {**EARLIER_GAINS, **part["network"]}  # older versions do not say
    if any(recorded.get(name) != given[name] for name in ("network", "variant")):
        raise ValueError(
            f"{trained} is a run of {recorded['name']}, whose network is not {recipe.name}'s"
        )


def _write(path: Path, picture: Picture) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OSError(f"{path.name} could not be written: no room, or no leave to")
