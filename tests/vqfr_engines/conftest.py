"""Small weights, one engine made of them, and an empty place for more."""

from pathlib import Path

import pytest
from vqfr_engines.build import build_engine
from vqfr_engines.store import VARIABLE

from tests.vqfr_engines.small import request_for, small_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of model lite, 64 px."""
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def engine(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One sound OpenVINO engine of these weights, which no test changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, str(tmp_path_factory.mktemp("built")))
        return build_engine(request_for(weights)).folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for engines, with none in it and not made yet."""
    folder = tmp_path / "engines"
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder
