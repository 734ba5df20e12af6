"""Small weights, one engine made of them, and an empty place for more."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock
from vqfr_engines import openvino
from vqfr_engines.build import build_engine

from tests.paths import for_all_processes
from tests.vqfr_engines.small import request_for, small_weights
from vqfr_media.engines_folder import VARIABLE
from vqfr_media.manifest import Precision
from vqfr_media.network.vqfr_v1 import VqfrV1
from vqfr_media.network.vqfr_v2 import VqfrV2


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of model lite, 64 px."""
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def engine(
    weights: Path, convert_once: Callable[..., None], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One sound OpenVINO engine of these weights, which no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("built")))
        patch.setattr(openvino, "build", convert_once)
        return build_engine(request_for(weights)).folder


@pytest.fixture(scope="session")
def convert_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """`openvino.build`, which converts the same network only once in a session.

    Whoever builds it again gets the files of the first time; all else of a build (locks, loading,
    comparing, hashing, putting in place) is done each time. Commands that a test starts in a
    process of their own convert it themselves.
    """
    convert = openvino.build
    conversions = for_all_processes(tmp_path_factory, "conversions")

    def build(
        network: VqfrV1 | VqfrV2,
        folder: Path,
        *,
        precision: Precision,
        batch_size: int,
        device: str,
    ) -> None:
        key = hashlib.sha256(repr((network.config, precision, batch_size, device)).encode())
        for name, values in network.state_dict().items():
            key.update(name.encode() + values.numpy().tobytes())
        kept = conversions / key.hexdigest()
        with FileLock(f"{kept}.lock"):
            if not kept.exists():
                made = Path(tempfile.mkdtemp(dir=conversions))
                convert(network, made, precision=precision, batch_size=batch_size, device=device)
                made.rename(kept)
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    return build


@pytest.fixture
def converted_once(convert_once: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this test builds is converted by `convert_once`."""
    monkeypatch.setattr(openvino, "build", convert_once)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, converted_once: None) -> Path:
    """A place for engines, with none in it and not made yet."""
    del converted_once
    folder = tmp_path / "engines"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder
