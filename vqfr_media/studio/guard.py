"""Who may ask the studio: pages that it served itself, by an address that only its user knows."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

HEADERS = {
    # Nothing from elsewhere, no script in the text, and nobody frames it.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Guard:
    """An ASGI application that lets through what the studio's own page asks, and nothing else.

    - The header Host must be the very address that was printed: a name that somebody made point to
      this machine (DNS rebinding) is another one.
    - The header Origin, where there is one, must be the same, and the browser must not say that
      another site asks.
    - The path must begin with the token. It is taken off for the application behind.
    """

    def __init__(self, application: Application, *, token: str, port: int) -> None:
        """Guards `application`, which is served at this port of 127.0.0.1."""
        self._application = application
        self._token = token
        self._host = f"127.0.0.1:{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        if scope["type"] != "http":
            return  # neither lifespans nor websockets are known here
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        refusal = self._refusal(scope["path"], headers)
        if refusal is not None:
            await _answer(send, 403, refusal)
            return
        path = scope["path"].removeprefix(f"/{self._token}")
        if not path:
            await _answer(send, 307, "", location=f"/{self._token}/")
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded(HEADERS)]
            await send(message)

        inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": ""}
        await self._application(inner, receive, with_headers)

    def _refusal(self, path: str, headers: dict[str, list[str]]) -> str | None:
        """Returns why a request is refused, None where it is not."""
        if headers.get("host") != [self._host]:
            return f"the studio answers to http://{self._host} alone"
        if headers.get("origin", [f"http://{self._host}"]) != [f"http://{self._host}"]:
            return "the studio answers its own page alone"
        if not set(headers.get("sec-fetch-site", ["none"])) <= {"none", "same-origin"}:
            return "the studio answers its own page alone"
        given = path.split("/")[1] if path.startswith("/") else ""
        if not secrets.compare_digest(given.encode(), self._token.encode()):
            return "the address lacks its token; open the one that `vqfr-media studio` printed"
        return None


async def _answer(send: Send, status: int, text: str, **headers: str) -> None:
    known = {**HEADERS, **headers, "content-type": "text/plain; charset=utf-8"}
    body = f"{text}\n".encode()
    known["content-length"] = str(len(body))
    await send({"type": "http.response.start", "status": status, "headers": _encoded(known)})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
