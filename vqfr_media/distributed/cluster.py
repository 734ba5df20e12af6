"""A connection to Ray: no telemetry, no dashboard, nothing of its own on standard output."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqfr_media.errors import BackendError
from vqfr_media.files import first_line

logger = logging.getLogger(__name__)

# What a local cluster keeps between its processes: pieces of results on their way, never frames.
OBJECT_STORE_BYTES = 128 << 20
_ANSWER_SECONDS = 5.0
_USAGE = "RAY_USAGE_STATS_ENABLED"


def ray_library() -> Any:
    """Returns the module `ray`.

    Raises:
        BackendError: it is not installed, or does not load.
    """
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            f"work on many machines needs Ray, which does not load here ({error}): "
            "pip install 'vqfr-media[distributed]'"
        ) from error
    return ray


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Keeps a connection to the cluster at `address` (`RayOptions.address`) while the block runs.

    Where this process is connected already, that connection is used and stays.

    Raises:
        BackendError: Ray is not installed, or there is no such cluster.
    """
    ray = ray_library()
    if ray.is_initialized():
        yield
        return
    found = _find(address)
    with _ray_output_logged():
        try:
            with _environment(_USAGE, "0"), _kept_signals():
                _init(ray, address, found)
        # Ray's own errors, and what its daemons' start comes to; SystemExit where it gives up.
        except (ray.exceptions.RayError, RuntimeError, ValueError, OSError, SystemExit) as error:
            raise BackendError(_refused(found, error)) from error
        try:
            yield
        finally:
            ray.shutdown()


def _init(ray: Any, address: str, found: str | None) -> None:
    settings: dict[str, Any] = {
        "log_to_driver": False,  # the workers' log comes with their results (worker_handle.py)
        "logging_level": logging.ERROR,
    }
    if found is None:
        ray.init(
            "local", include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **settings
        )
    else:
        # Without an address Ray finds the same as we did, and takes this user's token along.
        ray.init(None if address == "auto" else found, **settings)


def _refused(found: str | None, error: BaseException) -> str:
    if found is None:
        return f"ray: a local cluster cannot be started: {first_line(error)}"
    cause: BaseException | None = error
    while cause is not None:
        if "token" in str(cause):
            return (
                f"ray: {found} asks for a token: set RAY_AUTH_MODE=token, and put the file "
                "~/.ray/auth_token of the machine on which it was started at the same place here"
            )
        cause = cause.__cause__
    return f"ray: {found} cannot be joined: {first_line(error)}; see `ray status` there"


def _find(address: str) -> str | None:
    """Returns HOST:PORT of a cluster that answers; None if one is to be started."""
    if address == "local":
        return None
    if address != "auto":
        _check_answers(address, "start one there with `ray start --head`, or use --ray local")
        return address
    if named := os.environ.get("RAY_ADDRESS"):
        if ":" not in named or "://" in named:
            raise BackendError(f"RAY_ADDRESS {named!r} is no HOST:PORT; correct it or unset it")
        _check_answers(named, "RAY_ADDRESS names it; correct it or unset it")
        return named
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp")) / "ray" / "ray_current_cluster"  # noqa: S108
    if not note.is_file():
        return None
    # Of the last `ray start` on this machine. Ray's own search would also find clusters that other
    # programs have started for themselves, and that end with them.
    found = note.read_text().strip()
    try:
        _check_answers(found, "")
    except BackendError:
        logger.warning("ray %s, noted in %s, is not there any more; starting one", found, note)
        return None
    return found


def _check_answers(address: str, advice: str) -> None:
    """Refuses an address at which nothing answers; Ray itself would try for two minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise BackendError(
            f"ray {address}: no cluster answers there ({error}); {advice}"
        ) from error


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Sets a variable of the environment for the processes that are started in the block."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before


@contextmanager
def _kept_signals() -> Iterator[None]:
    """Restores the handler of SIGTERM, which Ray replaces and the command line needs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _StdoutWithoutRay:
    """Standard output, except that what Ray's threads print goes to our log at level DEBUG."""

    def __init__(self, stdout: Any) -> None:
        self._stdout = stdout

    def write(self, text: str) -> int:
        if threading.current_thread().name.startswith("ray_"):
            if text.strip():
                logger.debug("%s", text.strip())
            return len(text)
        written: int = self._stdout.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stdout, name)


@contextmanager
def _ray_output_logged() -> Iterator[None]:
    """Keeps what Ray's threads print off standard output while the block runs."""
    before = sys.stdout
    sys.stdout = _StdoutWithoutRay(before)
    try:
        yield
    finally:
        sys.stdout = before
