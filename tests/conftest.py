"""What every test has: the data beside the checkout, and global state that no test leaks."""

import logging
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.paths import SHARED, for_all_processes

# Whoever imports OpenVINO first: its telemetry forks this process, with the pipes of its children.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with clips, photographs, golden numbers and development weights."""
    if not SHARED.is_dir():
        pytest.skip(f"the development data are not here: {SHARED}")
    return SHARED


@pytest.fixture(scope="session", autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the tests' engines are kept: never in the user's own cache.

    Built once for all processes of a session: the one that comes second waits and takes it.
    """
    folder = for_all_processes(tmp_path_factory, "kept_engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VQFR_MEDIA_ENGINES", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def leak_nothing() -> Iterator[None]:
    """Random state after a test is what it was before, so that tests do not depend on order."""
    state = random.getstate()
    numpy_state = np.random.get_state()
    torch_state = torch.get_rng_state()
    threads = torch.get_num_threads()
    logs = log_settings()
    yield
    random.setstate(state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)
    left = torch.get_num_threads()
    torch.set_num_threads(threads)
    assert left == threads, "a test changed torch's number of threads for the others"
    assert log_settings() == logs, "a test changed for the others what is logged"


def log_settings() -> set[tuple[str, int, bool, bool]]:
    """Name, level, propagation and disabling of the root's logger and of ours that were changed."""
    ours = [name for name in logging.Logger.manager.loggerDict if name.startswith("vqfr_")]
    loggers = [logging.getLogger(), *map(logging.getLogger, ours)]
    settings = {(log.name, log.level, log.propagate, log.disabled) for log in loggers}
    return {setting for setting in settings if setting[1:] != (logging.NOTSET, True, False)}
