"""The studio's page over HTTP: Starlette's routes, uvicorn's server, 127.0.0.1 alone."""

import secrets
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqfr_media.errors import InputError, MachineError, OptionError, VqfrMediaError
from vqfr_media.studio.guard import Application, Guard
from vqfr_media.studio.libraries import check_studio_available
from vqfr_media.studio.session import StudioSession
from vqfr_media.studio.settings import StudioSettings

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from uvicorn import Server

# Settings of ten thousand tracks; more is no page of ours.
_LARGEST_BODY = 2_000_000
# What the page is made of: no path that somebody asks for ever becomes a file's name.
_HERE = Path(__file__).parent
_FILES = {
    "/": (_HERE / "page.html", "text/html"),
    "/base.css": (_HERE.parent / "review" / "base.css", "text/css"),
    "/studio.css": (_HERE / "studio.css", "text/css"),
    "/studio.js": (_HERE / "studio.js", "text/javascript"),
    "/faces.js": (_HERE / "faces.js", "text/javascript"),
    "/wipe.js": (_HERE / "wipe.js", "text/javascript"),
}


@dataclass(frozen=True)
class StudioServer:
    """A server that listens already: whoever connects is answered once it runs."""

    socket: socket.socket
    """Bound to 127.0.0.1."""
    server: "Server"
    """Set its `should_exit` to end it from another thread."""
    address: str
    """What to open, with the token."""

    def run(self) -> None:
        """Serves until Ctrl-C, which it raises as it came, or until `should_exit`."""
        with self.socket:
            self.server.run(sockets=[self.socket])


def studio_server(session: StudioSession, *, port: int = 0) -> StudioServer:
    """Returns the server of a session.

    Args:
        session: what is served.
        port: of 127.0.0.1; 0 takes one that is free.

    Raises:
        BackendError: Starlette or uvicorn is not installed.
        MachineError: the port is taken.
        OptionError: there is no such port.
    """
    check_studio_available()
    import uvicorn

    if not 0 <= port <= 65535:
        raise OptionError(f"port must be between 0 and 65535, got {port}")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise MachineError(
            f"port {port} of this machine cannot be used: {error.strerror}; choose another --port, "
            "or leave it out"
        ) from error
    token = secrets.token_urlsafe(24)
    port = listening.getsockname()[1]
    config = uvicorn.Config(
        Guard(make_application(session), token=token, port=port),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )
    server = uvicorn.Server(config)
    return StudioServer(listening, server, f"http://127.0.0.1:{port}/{token}/")


def make_application(session: StudioSession) -> Application:
    """Returns the page and what it asks for, as an ASGI application without a guard."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import FileResponse, JSONResponse, Response
    from starlette.routing import Route

    def file_route(path: str) -> Route:
        file, kind = _FILES[path]

        def answer(_: "Request") -> "Response":
            return FileResponse(file, media_type=kind)

        return Route(path, answer)

    def about(_: "Request") -> "Response":
        return JSONResponse(session.about())

    def before(request: "Request") -> "Response":
        return Response(session.before(request.path_params["number"]), media_type="image/png")

    def crop(request: "Request") -> "Response":
        return Response(session.crop(request.path_params["track"]), media_type="image/png")

    def with_settings(
        path: str, answer: Callable[["Request", StudioSettings], "Response"]
    ) -> Route:
        async def take(request: "Request") -> "Response":
            settings = StudioSettings.from_json(await _body(request), session.tracks)
            return await run_in_threadpool(answer, request, settings)

        return Route(path, take, methods=["POST"])

    def after(request: "Request", settings: StudioSettings) -> "Response":
        picture = session.after(request.path_params["number"], settings)
        return Response(picture, media_type="image/png")

    def frame(request: "Request", settings: StudioSettings) -> "Response":
        return JSONResponse(session.frame(request.path_params["number"], settings))

    def status(_: "Request", settings: StudioSettings) -> "Response":
        return JSONResponse(session.status(settings))

    def save(_: "Request", settings: StudioSettings) -> "Response":
        return JSONResponse(session.save(settings))

    async def failed(_: "Request", error: Exception) -> "Response":
        code = 400 if isinstance(error, InputError) else 500
        return JSONResponse({"error": str(error)}, status_code=code)

    handlers: dict[Any, Any] = {VqfrMediaError: failed}
    return Starlette(
        routes=[
            *map(file_route, _FILES),
            Route("/about.json", about),
            Route("/crop/{track:int}.png", crop),
            Route("/frame/{number:int}/before.png", before),
            with_settings("/frame/{number:int}/after.png", after),
            with_settings("/frame/{number:int}/faces.json", frame),
            with_settings("/status.json", status),
            with_settings("/save", save),
        ],
        exception_handlers=handlers,
    )


async def _body(request: "Request") -> bytes:
    """Returns what was sent.

    Raises:
        OptionError: it is no JSON by its own word, or too much.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind != "application/json":
        raise OptionError(f"settings are sent as application/json, got {kind!r:.40}")
    parts, size = [], 0
    async for part in request.stream():
        parts.append(part)
        size += len(part)
        if size > _LARGEST_BODY:
            raise OptionError(f"settings have at most {_LARGEST_BODY} bytes")
    return b"".join(parts)
