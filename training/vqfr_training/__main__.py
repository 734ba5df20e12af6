"""`python -m vqfr_training RECIPE --data DIR --out DIR [--init RUN] [--resume] [--threads N]`.

`python -m vqfr_training restore` restores a folder with what was trained, `evaluate` measures
restored faces, `pack` makes tar shards, `evaluate-detector` and `label-faces` serve the detector.
"""

import logging
import sys

from vqfr_media.errors import MachineError
from vqfr_training.commands import parse, run_command

logger = logging.getLogger("training")

_EXTRA = (
    "lightning_fabric",
    "scipy",
    "skimage",
    "sklearn",
    "tensorboard",
    "torch_fidelity",
    "torchmetrics",
)
"""Modules that come with the extra `train`."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns 0, 2 for a mistake of the caller's, 3 for what this machine lacks.

    Raises:
        SystemExit: what was typed cannot be parsed, or asked for help.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    command = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return run_command(command)
    except ValueError as error:
        logger.error("%s", error)
        return 2
    except MachineError as error:
        logger.error("%s", error)
        return 3
    except ModuleNotFoundError as error:
        # torchmetrics says what it lacks in a sentence, without a name.
        if error.name is not None and error.name.partition(".")[0] not in _EXTRA:
            raise
        logger.error("%s: pip install 'vqfr-media[train]'", error)
        return 3


if __name__ == "__main__":
    sys.exit(main())
