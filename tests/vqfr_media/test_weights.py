"""Weights from a real server on this machine: fetched once, whole, checked, or refused in words."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from vqfr_media import weights
from vqfr_media.errors import InputError, OptionError, WeightsError
from vqfr_media.weights import VARIABLE, WeightFile

BODY = b"PK" + bytes(range(256)) * 8192  # about 2 MB: several pieces
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Server:
    """What the paths of a web server answer, and how often each was asked for."""

    address: str = ""
    asked: Counter[str] = field(default_factory=Counter)
    stall: threading.Event = field(default_factory=threading.Event)

    def file(self, path: str, **known: object) -> WeightFile:
        base = WeightFile(
            name="tiny",
            what="for tests",
            file_name="tiny.pth",
            licence="MIT",
            url=f"{self.address}/releases/{path}",
            size=len(BODY),
            sha256=SHA256,
        )
        return replace(base, **known)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[Server]:
    ours = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.rpartition("/")[2]
            ours.asked[path] += 1
            if path == "gone":
                self.send_error(404)
                return
            if path == "moved":
                self.send_response(302)
                self.send_header("Location", f"{ours.address}/good")
                self.end_headers()
                return
            if path == "elsewhere":
                self.send_response(302)
                self.send_header("Location", "ftp://example.org/good")
                self.end_headers()
                return
            body = b"PK" + b"x" * (len(BODY) - 2) if path == "other" else BODY
            body = b"<html>please sign in</html>" if path == "page" else body
            self.send_response(200)
            if path != "chunked":
                self.send_header("Content-Length", str(len(body) * (2 if path == "short" else 1)))
            self.end_headers()
            if path == "slow":
                self.wfile.write(body[: 1 << 20])
                self.wfile.flush()
                ours.stall.wait(60)
                body = body[1 << 20 :]
            if path == "good":
                time.sleep(0.3)  # so that two who ask at once really meet
            try:
                self.wfile.write(body)
            except OSError:
                self.close_connection = True  # the client was killed by its test

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        ours.address = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield ours
        ours.stall.set()
        http.shutdown()
        thread.join()


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"tiny.pth.lock"}


def test_a_good_fetch(server: Server, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    file = server.file("good")
    path = weights.find(
        file, environ={}, cache=tmp_path / "new", progress=lambda *step: steps.append(step)
    )
    assert path == tmp_path / "new" / "tiny.pth"
    assert path.read_bytes() == BODY
    assert names(path.parent) == {"tiny.pth"}
    assert [total for _, total in steps] == [len(BODY)] * len(steps)
    assert [done for done, _ in steps] == sorted({done for done, _ in steps})
    assert steps[-1][0] == len(BODY)
    assert weights.find(file, environ={}, cache=tmp_path / "new", offline=True) == path
    assert server.asked["good"] == 1


@pytest.mark.parametrize("path", ["chunked", "moved"])
def test_a_server_may_leave_out_the_length_or_redirect(
    server: Server, tmp_path: Path, path: str
) -> None:
    assert weights.find(server.file(path), environ={}, cache=tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("other", "SHA-256 .* should begin with"),
        ("short", f"broke off after {len(BODY)} of {2 * len(BODY)} bytes"),
        ("gone", "answered 404 Not Found"),
        ("page", f"has 27 bytes instead of {len(BODY)}"),
        ("elsewhere", "redirects to ftp://example.org/good"),
    ],
)
def test_a_bad_fetch_leaves_nothing_and_says_what_to_do(
    server: Server, tmp_path: Path, path: str, words: str
) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        weights.find(server.file(path), environ={}, cache=tmp_path)
    message = str(caught.value)
    for part in (f"{server.address}/releases/{path}", str(tmp_path), VARIABLE):
        assert part in message
    assert "\n" not in message
    assert names(tmp_path) == set()


def test_nobody_listens(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    file = Server(f"http://127.0.0.1:{port}").file("good")
    with pytest.raises(WeightsError, match=r"cannot fetch .*refused"):
        weights.find(file, environ={}, cache=tmp_path)
    assert names(tmp_path) == set()


def test_a_server_that_stalls(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqfr_media.download.TIMEOUT_SECONDS", 0.3)
    with pytest.raises(WeightsError, match=r"cannot fetch .*timed out"):
        weights.find(server.file("slow"), environ={}, cache=tmp_path)
    assert names(tmp_path) == set()


def test_offline_asks_nobody(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="offline is set") as caught:
        weights.find(server.file("good"), environ={}, cache=tmp_path, offline=True)
    for part in (f"{server.address}/releases/good", str(tmp_path), VARIABLE):
        assert part in str(caught.value)
    assert server.asked.total() == 0
    assert weights.locate(server.file("good"), environ={}, cache=tmp_path) is None
    assert weights.verify(server.file("good"), environ={}, cache=tmp_path).state == "missing"


# Runs in another process: fetches argv[1] into the folder argv[2].
FETCH = f"""
import sys
from pathlib import Path
from vqfr_media.weights import WeightFile, find
find(
    WeightFile(name="tiny", what="", file_name="tiny.pth", licence="MIT", url=sys.argv[1],
               sha256="{SHA256}"),
    environ={{}}, cache=Path(sys.argv[2]),
)
"""


def fetch_elsewhere(url: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", FETCH, url, str(folder)])


def test_two_processes_fetch_once(server: Server, tmp_path: Path) -> None:
    both = [fetch_elsewhere(f"{server.address}/good", tmp_path) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert server.asked["good"] == 1
    assert (tmp_path / "tiny.pth").read_bytes() == BODY


def test_a_process_killed_on_the_way_leaves_no_file(server: Server, tmp_path: Path) -> None:
    process = fetch_elsewhere(f"{server.address}/slow", tmp_path)
    part = tmp_path / "tiny.pth.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    assert process.wait(60) != 0
    assert part.stat().st_size < len(BODY)
    assert not (tmp_path / "tiny.pth").exists()
    assert weights.find(server.file("good"), environ={}, cache=tmp_path).read_bytes() == BODY
    assert names(tmp_path) == {"tiny.pth"}


def test_the_order_of_the_search(server: Server, tmp_path: Path) -> None:
    file = server.file("good", also_named=("small.pth",))
    mine, first, second = tmp_path / "mine.pth", tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    cached = weights.find(file, environ={}, cache=tmp_path / "cache")
    environ = {VARIABLE: os.pathsep.join([str(first), "", str(second)])}
    assert weights.find(file, environ=environ, cache=cached.parent) == cached
    (second / "small.pth").write_bytes(b"my own")
    assert weights.find(file, environ=environ, cache=cached.parent) == second / "small.pth"
    assert weights.find(file, environ={VARIABLE: str(second / "small.pth")}).name == "small.pth"
    (first / "tiny.pth").write_bytes(b"my own")
    assert weights.find(file, environ=environ, cache=cached.parent) == first / "tiny.pth"
    state = weights.verify(file, environ=environ, cache=cached.parent)
    assert (state.state, state.published, state.fault) == ("provided", False, "")
    mine.write_bytes(b"my own")
    assert weights.find(file, explicit=mine, environ=environ, cache=cached.parent) == mine
    assert server.asked["good"] == 1


def test_the_environment_is_the_process_s_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "VQFR_v2.pth").write_bytes(b"my own")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert weights.find("v2", offline=True) == tmp_path / "VQFR_v2.pth"
    assert {s.name: s.state for s in weights.status()}["v2"] == "provided"


def test_what_comes_with_the_package_goes_before_the_cache(tmp_path: Path) -> None:
    bundled = Path(weights.__file__).parent / "models" / "lite.safetensors"
    (tmp_path / "lite.safetensors").write_bytes(b"in the cache")
    expected = bundled if bundled.exists() else tmp_path / "lite.safetensors"
    assert weights.find("lite", environ={}, cache=tmp_path) == expected


MODELS = Path(weights.__file__).parent / "models"


@pytest.mark.parametrize(
    "file", [f for f in weights.WEIGHTS.values() if f.url is None], ids=lambda file: str(file.name)
)
def test_what_comes_with_the_package_is_what_the_table_says(
    file: WeightFile, tmp_path: Path
) -> None:
    content = (MODELS / file.file_name).read_bytes()
    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    state = weights.verify(file, environ={}, cache=tmp_path)
    assert (state.state, state.published) == ("bundled", True)
    card = (MODELS / file.file_name).with_suffix(".md").read_text()
    assert file.licence.replace("-", " ").rsplit(" ", 1)[0] in card.replace("-", " ")


def test_a_damaged_file_of_the_package_is_not_used(tmp_path: Path) -> None:
    # The bundled file is the same; what is expected of it is not.
    file = replace(weights.WEIGHTS["lite"], sha256="0" * 64)
    assert weights.locate(file, environ={}, cache=tmp_path) is None
    state = weights.verify(file, environ={}, cache=tmp_path)
    assert (state.state, state.published) == ("damaged", False)
    with pytest.raises(WeightsError, match=r"lite\.safetensors has .* install vqfr-media again"):
        weights.find(file, environ={}, cache=tmp_path)
    cached = tmp_path / "lite.safetensors"
    cached.write_bytes(BODY)
    sound = replace(file, sha256=SHA256, size=None)
    assert weights.find(sound, environ={}, cache=tmp_path) == cached


def test_nothing_is_written_beside_the_package_s_own_files(tmp_path: Path) -> None:
    before = set(MODELS.iterdir())
    file = replace(weights.WEIGHTS["lite"], sha256=None, size=None)
    assert weights.find(file, environ={}, cache=tmp_path) == MODELS / "lite.safetensors"
    assert set(MODELS.iterdir()) == before


def test_weights_without_an_address_that_are_missing(tmp_path: Path) -> None:
    file = WeightFile(name="own", what="", file_name="own.safetensors", licence="MIT")
    with pytest.raises(WeightsError, match=r"own\.safetensors is missing here"):
        weights.find(file, environ={}, cache=tmp_path)


def test_an_explicit_path_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no weights file .*mine\.pth"):
        weights.find("v2", explicit=tmp_path / "mine.pth")


def test_a_variable_that_names_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=f"{VARIABLE} names .*nowhere, which does not exist"):
        weights.find("v2", environ={VARIABLE: str(tmp_path / "nowhere")}, offline=True)


def test_an_unknown_name() -> None:
    with pytest.raises(OptionError, match="no weights 'v3'; there are lite, v1, v2"):
        weights.find("v3")


@pytest.mark.parametrize("damage", [b"", BODY[:-1], BODY[:-1] + b"!"])
def test_a_damaged_file_in_the_cache_is_fetched_anew(
    server: Server, tmp_path: Path, damage: bytes
) -> None:
    file = server.file("good")
    (tmp_path / "tiny.pth").write_bytes(damage)
    assert weights.locate(file, environ={}, cache=tmp_path) is None
    state = weights.verify(file, environ={}, cache=tmp_path)
    assert state.state == "damaged"
    assert state.fault
    with pytest.raises(WeightsError, match="offline"):
        weights.find(file, environ={}, cache=tmp_path, offline=True)
    assert weights.find(file, environ={}, cache=tmp_path).read_bytes() == BODY
    state = weights.verify(file, environ={}, cache=tmp_path)
    assert (state.state, state.sha256, state.published) == ("cached", SHA256, True)


@pytest.mark.parametrize("known", [None, SHA256[:8]])
def test_without_a_whole_hash_the_first_seen_holds(
    server: Server, tmp_path: Path, known: str | None
) -> None:
    file = server.file("good", sha256=known, size=None)
    path = weights.find(file, environ={}, cache=tmp_path)
    pin = tmp_path / "tiny.pth.sha256"
    assert pin.read_text() == f"{SHA256}  tiny.pth\n"
    path.unlink()
    with pytest.raises(WeightsError, match=r"begin with|when first seen"):
        weights.find(replace(file, url=f"{server.address}/other"), environ={}, cache=tmp_path)
    assert names(tmp_path) == {pin.name}
    assert weights.find(file, environ={}, cache=tmp_path) == path
    path.write_bytes(BODY + b"!")
    assert weights.locate(file, environ={}, cache=tmp_path) is None
    pin.unlink()
    found = weights.locate(file, environ={}, cache=tmp_path)
    assert found == (None if known else path)


def test_a_file_put_into_the_cache_by_hand_is_pinned(tmp_path: Path) -> None:
    path = tmp_path / "VQFR_v2.pth"
    path.write_bytes(BODY)
    assert weights.verify("v2", environ={}, cache=tmp_path).published is None
    assert names(tmp_path) == {"VQFR_v2.pth"}  # looking changes nothing
    assert weights.find("v2", environ={}, cache=tmp_path, offline=True) == path
    assert (tmp_path / "VQFR_v2.pth.sha256").read_text().startswith(SHA256)


def test_a_sign_in_page_is_not_the_file_first_seen(server: Server, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="is not a PyTorch file"):
        weights.find(server.file("page", sha256=None, size=None), environ={}, cache=tmp_path)
    assert names(tmp_path) == set()


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match=f"cannot keep tiny.pth in .*{VARIABLE}"):
        weights.find(server.file("good"), environ={}, cache=tmp_path / "file" / "cache")
    assert server.asked.total() == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny.pth.part").symlink_to("/dev/full")
    with pytest.raises(WeightsError, match="No space left on device; make room"):
        weights.find(server.file("good"), environ={}, cache=tmp_path)
    assert names(tmp_path) == set()


def test_the_table_holds_no_guess() -> None:
    names = ["lite", "v1", "v2", "bundled", "mesh", "identity", "mobilenet", "resnet50"]
    assert list(weights.WEIGHTS) == names
    for file in weights.WEIGHTS.values():
        assert file.url is None or file.url.startswith("https://")
        assert file.url is None or file.url.endswith(file.file_name)
        assert file.sha256 is None or set(file.sha256) <= set("0123456789abcdef")
    with pytest.raises(ValueError, match="https or http only"):
        replace(weights.WEIGHTS["v2"], url="file:///etc/passwd")
