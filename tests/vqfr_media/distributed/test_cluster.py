"""Getting to a cluster: by address, by name, or not at all, and then with the way out."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from vqfr_media.distributed.cluster import connected
from vqfr_media.distributed.options import RayOptions
from vqfr_media.distributed.ray_worker import open_workers
from vqfr_media.errors import BackendError
from vqfr_media.options import RestoreOptions


def open_at(address: str) -> None:
    with open_workers(RayOptions(address=address), RestoreOptions()):
        raise AssertionError


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendError, match=r"pip install 'vqfr-media\[distributed\]'"):
        open_at("auto")


def test_an_address_at_which_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    port = closed_port()
    with pytest.raises(BackendError, match=rf"ray 127\.0\.0\.1:{port}: no cluster answers there"):
        open_at(f"127.0.0.1:{port}")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(BackendError, match="RAY_ADDRESS names it; correct it or unset it"):
        open_at("auto")
    monkeypatch.setenv("RAY_ADDRESS", "ray://127.0.0.1:10001")
    with pytest.raises(BackendError, match=r"RAY_ADDRESS 'ray://127.* is no HOST:PORT"):
        open_at("auto")


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for those of Ray's sockets, 107 bytes in all."""
    with TemporaryDirectory(prefix="r", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.slow
def test_auto_starts_a_cluster_where_there_is_none(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(short_path))  # where the last `ray start` is noted
    (short_path / "ray").mkdir()
    (short_path / "ray" / "ray_current_cluster").write_text(f"127.0.0.1:{closed_port()}")
    before = signal.getsignal(signal.SIGTERM), sys.stdout
    with connected("auto"):
        assert "is not there any more; starting one" in caplog.text
        assert ray.cluster_resources()["CPU"] >= 1
        assert signal.getsignal(signal.SIGTERM) == before[0]
        with connected("auto"):  # the same one, which stays
            pass
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert sys.stdout is before[1]
    assert os.environ.get("RAY_USAGE_STATS_ENABLED") is None
