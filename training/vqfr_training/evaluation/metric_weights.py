"""The networks that metrics stand on: which files they are, and where they lie here, if they do.

They are looked for like all weights (`vqfr_media/weights.py`), torch.hub's cache last, and fetched
only where that is asked for.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vqfr_media.weights import WeightFile

NAMES = ("vgg16", "inception", "arcface_resnet18", "arcface_ir_se50", "awing")
"""The files that `metric_file` describes."""


@dataclass(frozen=True)
class Missing:
    """Why a metric could not be measured."""

    reason: str
    """One line that names what is lacking and the way out."""


def metric_file(name: str) -> "WeightFile":
    """Returns what is known of the file called `name`, one of `NAMES`."""
    from vqfr_media.weights import WeightFile

    facexlib = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"
    match name:
        case "vgg16":  # the file name holds the beginning of its hash, as torchvision's all do
            return WeightFile(
                name="vgg16",
                what="torchvision's VGG-16, for LPIPS",
                file_name="vgg16-397923af.pth",
                licence="BSD-3-Clause",
                url="https://download.pytorch.org/models/vgg16-397923af.pth",
                sha256="397923af",
            )
        case "inception":
            return WeightFile(
                name="inception",
                what="TensorFlow's Inception v3 of 2015, for FID",
                file_name="weights-inception-2015-12-05-6726825d.pth",
                licence="Apache-2.0",
                url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
                "weights-inception-2015-12-05-6726825d.pth",
                sha256="6726825d",
            )
        case "arcface_resnet18":
            return WeightFile(
                name="arcface_resnet18",
                what="ArcFace with a ResNet-18 on grey faces, the paper's measure of identity",
                file_name="arcface_resnet18.pth",
                also_named=("resnet18_110.pth",),
                licence="Apache-2.0",
                url="https://github.com/TencentARC/GFPGAN/releases/download/v0.1.0/"
                "arcface_resnet18.pth",
            )
        case "arcface_ir_se50":
            return WeightFile(
                name="arcface_ir_se50",
                what="facexlib's ArcFace with an IR-SE-50",
                file_name="recognition_arcface_ir_se50.pth",
                licence="MIT",
                url=f"{facexlib}/recognition_arcface_ir_se50.pth",
            )
        case "awing":
            return WeightFile(
                name="awing",
                what="facexlib's AWing network, 98 landmarks",
                file_name="alignment_WFLW_4HG.pth",
                licence="MIT",
                url=f"{facexlib}/alignment_WFLW_4HG.pth",
            )
    raise ValueError(f"no metric stands on {name!r}; there are {', '.join(NAMES)}")


def locate(name: str, *, fetch: bool = False) -> Path | Missing:
    """Returns where the file called `name` lies, or why it cannot be had.

    Args:
        name: one of `NAMES`.
        fetch: get it from its publisher where it is not here.
    """
    import torch

    from vqfr_media import weights
    from vqfr_media.errors import WeightsError

    file = metric_file(name)
    if (here := weights.locate(file)) is not None:
        return here
    # Where torchvision and torch-fidelity keep the very same files.
    hub = Path(torch.hub.get_dir()) / "checkpoints" / file.file_name
    if hub.is_file():
        return hub
    if not fetch:
        return Missing(
            f"{file.file_name} ({file.what}) is not here: get {file.url} and put it into "
            f"{weights.cache_folder()}, or name its folder in {weights.VARIABLE}, "
            "or let it be fetched with --fetch"
        )
    try:
        return weights.find(file)
    except WeightsError as error:
        return Missing(str(error))
