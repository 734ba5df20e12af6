"""The demo's film, its faces, and the studio at work on it, with the real network."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from vqfr_media.demo import scene
from vqfr_media.media.rgb_clip import write_clip
from vqfr_media.options import FaceOptions, ModelOptions, RestoreOptions
from vqfr_media.prepare import Prepared, prepare
from vqfr_media.studio.open_session import open_session
from vqfr_media.studio.server import studio_server
from vqfr_media.studio.session import StudioSession

FRAMES = 4
# What a shell must not take apart, in names of files that people do have.
NAME = 'a <b>\'s "odd" & film é.mp4'
OPTIONS = RestoreOptions(
    model=ModelOptions(model="lite", backend="torch"),
    face=FaceOptions(detector="bundled", score=0.9),
    offline=True,
)


@dataclass(frozen=True)
class Asked:
    """An answer of the studio."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def value(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class RunningStudio:
    """A studio that answers."""

    session: StudioSession
    address: str

    @property
    def host(self) -> str:
        return urlsplit(self.address).netloc

    def ask(
        self,
        path: str,
        *,
        settings: Any = None,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        token: bool = True,
    ) -> Asked:
        """Asks by HTTP for a path behind the token, or without it; sends settings where given."""
        parts = urlsplit(self.address)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=120)
        try:
            connection.putrequest(
                method or ("GET" if settings is None else "POST"),
                parts.path + path if token else path,
                skip_host=True,
            )
            sent = {"Host": parts.netloc, **(headers or {})}
            body = b""
            if settings is not None:
                body = settings if isinstance(settings, bytes) else json.dumps(settings).encode()
                sent = {"Content-Type": "application/json", **sent}
                sent["Content-Length"] = str(len(body))
            for name, value in sent.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Asked(answer.status, names, answer.read())
        finally:
            connection.close()


@contextmanager
def running(session: StudioSession) -> Iterator[RunningStudio]:
    """Serves a session from a thread."""
    made = studio_server(session)
    thread = Thread(target=made.run)
    thread.start()
    try:
        yield RunningStudio(session, made.address)
    finally:
        made.server.should_exit = True
        thread.join()


@pytest.fixture(scope="package")
def studio_film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The astronaut twice, the second time in a mirror: two persons."""
    path = tmp_path_factory.mktemp("studio") / NAME
    pictures = (np.hstack([one, one[:, ::-1]]) for one in scene.recorded(FRAMES))
    write_clip(path, pictures, frame_rate=scene.FRAME_RATE, quality=scene.CRF)
    return path


@pytest.fixture(scope="package")
def ready() -> Prepared:
    """The network that comes with the package."""
    return prepare(OPTIONS, None, None)


@pytest.fixture(scope="package")
def found_session(studio_film: Path, ready: Prepared) -> StudioSession:
    """The film opened, with the faces that are in it."""
    return open_session(
        studio_film, studio_film.with_name("chosen 'tracks'.json"), OPTIONS, ready=ready
    )


@pytest.fixture(scope="module")
def studio(found_session: StudioSession) -> Iterator[RunningStudio]:
    """It served, no longer than a module: its threads are not to meet other tests."""
    with running(found_session) as one:
        yield one
