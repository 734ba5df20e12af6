"""A file from the network: whole and checked under its name, or not there at all."""

import os
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from filelock import FileLock

from vqfr_media.errors import WeightsError

TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 20

Progress = Callable[[int, int | None], None]
"""Called with the bytes fetched so far and the bytes in all, where the server tells."""


def download(
    url: str, final: Path, fault: Callable[[Path], str], progress: Progress | None = None
) -> None:
    """Fetches `url` to `final`, once even if several processes ask for it.

    Args:
        url: an https or http address.
        final: replaced in one step, after the check.
        fault: says what is wrong with a file, '' if nothing is.
        progress: called after every piece.

    Raises:
        WeightsError: the network failed, or what it sent has a fault.
        OSError: the folder cannot be written.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{final}.lock"):
        if final.is_file() and not fault(final):
            return  # another process fetched it while this one waited
        part = final.with_name(f"{final.name}.part")
        try:
            done = 0
            with part.open("wb") as target:
                for piece, total in _pieces(url):
                    target.write(piece)
                    done += len(piece)
                    if progress is not None:
                        progress(done, total)
            if wrong := fault(part):
                raise WeightsError(f"what {url} sent {wrong}, and was thrown away")
            os.replace(part, final)
        finally:
            part.unlink(missing_ok=True)


class _StayEncrypted(HTTPRedirectHandler):
    """Follows no redirection from https to anything else."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """As the base class has it, with the schemes that may follow narrowed down."""
        if not newurl.startswith(("https:", f"{req.type}:")):
            fp.close()
            raise URLError(f"it redirects to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _pieces(url: str) -> Iterator[tuple[bytes, int | None]]:
    """Yields the body behind `url`, each piece with the announced length of the whole."""
    done = 0
    try:
        request = Request(url, headers={"User-Agent": "vqfr-media"})  # noqa: S310 (http or https)
        with build_opener(_StayEncrypted).open(request, timeout=TIMEOUT_SECONDS) as response:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            while piece := response.read(CHUNK_BYTES):
                done += len(piece)
                yield piece, total
    except HTTPError as error:
        error.close()
        raise WeightsError(f"{url} answered {error.code} {error.reason}") from error
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise WeightsError(f"cannot fetch {url}: {reason or type(error).__name__}") from error
    if total is not None and done != total:
        raise WeightsError(f"{url} broke off after {done} of {total} bytes")
