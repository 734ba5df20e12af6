"""The weights files: where they come from, where they lie here, and whether they are sound.

Looked for in this order: the path a caller gives, the places in `VQFR_MEDIA_WEIGHTS`, the files
inside this package, the user's cache, the network. What a caller or the variable names is taken
as it is (they may be weights of one's own); what lies in the package or in the cache is checked at
every use, against the SHA-256 in `WEIGHTS`, or where none is known for sure, against the
one first seen.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vqfr_media.download import Progress as Progress
from vqfr_media.download import download
from vqfr_media.errors import InputError, OptionError, WeightsError

VARIABLE = "VQFR_MEDIA_WEIGHTS"
PTH_STARTS = (b"PK", b"\x80\x02")  # a zip file, or a pickle as older PyTorch wrote

logger = logging.getLogger(__name__)

State = Literal["provided", "bundled", "cached", "missing", "damaged"]


@dataclass(frozen=True, kw_only=True)
class WeightFile:
    """A published file. What is not known for sure is None, never guessed."""

    name: str
    """Name under which the program asks for it."""
    what: str
    """What it is, in a few words."""
    file_name: str
    """Name of the published file, and of the file in the cache."""
    licence: str
    """SPDX name of the licence it is published under."""
    also_named: tuple[str, ...] = ()
    """Other names under which people keep this file."""
    url: str | None = None
    """Where it is fetched; None for a file that only comes with this package."""
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    """SHA-256, or its known beginning. Where it is not known whole, the hash first seen is kept
    beside the cached file and holds from then on."""

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("https://", "http://")):
            raise ValueError(f"weights are fetched over https or http only, got {self.url = }")


_VQFR = "https://github.com/TencentARC/VQFR/releases/download"
_FACEXLIB = "https://github.com/xinntao/facexlib/releases/download/v0.1.0"

WEIGHTS: Mapping[str, WeightFile] = {
    file.name: file
    for file in (
        WeightFile(
            name="lite",
            what="small network that comes with this package",
            file_name="lite.safetensors",
            licence="CC-BY-4.0",
            size=15_159_664,
            sha256="ea17b182508c8f04c007c9fae791b98be067a5ccc0d237e0437384801e616d7b",
        ),
        WeightFile(
            name="v1",
            what="VQFR, the network of the paper",
            file_name="VQFR_v1-33a1fac5.pth",
            also_named=("VQFR_v1.pth",),
            licence="Apache-2.0",
            url=f"{_VQFR}/v1.0.0/VQFR_v1-33a1fac5.pth",
            sha256="33a1fac5",  # its publisher put the beginning into the name; no more is known
        ),
        WeightFile(
            name="v2",
            what="VQFR version 2, with a choice of fidelity",
            file_name="VQFR_v2.pth",
            licence="Apache-2.0",
            url=f"{_VQFR}/v2.0.0/VQFR_v2.pth",
        ),
        WeightFile(
            name="bundled",
            what="RetinaFace detector that comes with this package, MobileNet 0.25",
            file_name="detector.safetensors",
            licence="CC-BY-4.0",
            size=906_688,
            sha256="4fe70c4042611a5ceca9f4edc161e5eefb2539b047d42c35a452aa5dd3617cf5",
        ),
        WeightFile(
            name="mesh",
            what="MediaPipe's face mesh, which comes with this package",
            file_name="face_mesh.tflite",
            licence="Apache-2.0",
            also_named=("mediapipe_face_landmark.tflite", "face_landmark.tflite"),
            size=1_242_398,
            sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
        ),
        WeightFile(
            name="identity",
            what="dlib's face network, by which tracks of one person are found",
            file_name="identity.safetensors",
            licence="CC0-1.0",
            size=11_240_760,
            sha256="625385675488d8a0b1c9f82eadf57a9c0188b533cbc18a5abcce1654e02f413f",
        ),
        # These two hashes stand beside the same URLs in Arch Linux's recipe for facexlib 0.2.5.
        WeightFile(
            name="mobilenet",
            what="facexlib's RetinaFace detector, MobileNet 0.25",
            file_name="detection_mobilenet0.25_Final.pth",
            also_named=("mobilenet0.25_Final.pth",),
            licence="MIT",
            url=f"{_FACEXLIB}/detection_mobilenet0.25_Final.pth",
            size=1_789_735,
            sha256="2979b33ffafda5d74b6948cd7a5b9a7a62f62b949cef24e95fd15d2883a65220",
        ),
        WeightFile(
            name="resnet50",
            what="facexlib's RetinaFace detector, ResNet-50",
            file_name="detection_Resnet50_Final.pth",
            also_named=("Resnet50_Final.pth",),
            licence="MIT",
            url=f"{_FACEXLIB}/detection_Resnet50_Final.pth",
            size=109_497_761,
            sha256="6d1de9c2944f2ccddca5f5e010ea5ae64a39845a86311af6fdf30841b0a5a16d",
        ),
    )
}


@dataclass(frozen=True)
class WeightStatus:
    """What is here of a weights file."""

    file: WeightFile
    """The file in question."""
    state: State
    """`provided` lies where `VQFR_MEDIA_WEIGHTS` says; `damaged` in the cache or the package."""
    path: Path
    """Where it lies, or where it would be put."""
    sha256: str | None = None
    """Its hash, None where it is missing."""
    fault: str = ""
    """What is wrong with a damaged file."""

    @property
    def name(self) -> str:
        """Name under which the program asks for it."""
        return self.file.name

    @property
    def licence(self) -> str:
        """SPDX name of the licence."""
        return self.file.licence

    @property
    def published(self) -> bool | None:
        """Whether it is the published file; None where it is missing or no hash is known."""
        known = self.file.sha256
        return self.sha256.startswith(known) if self.sha256 and known else None


def find(
    name: str | WeightFile,
    *,
    explicit: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cache: Path | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Finds the weights called `name`, and fetches them if they are nowhere on this machine.

    Args:
        name: a key of `WEIGHTS`, or the description of a file.
        explicit: the file itself; then nothing else is looked at.
        environ: has `VQFR_MEDIA_WEIGHTS`; by default the process's environment.
        cache: folder of fetched files; by default `cache_folder()`.
        offline: never fetch.
        progress: called while a file is fetched.

    Raises:
        InputError: `explicit` does not exist.
        OptionError: there are no weights of this name.
        WeightsError: they are not here and cannot be fetched.
    """
    file = _lookup(name)
    if found := locate(file, explicit=explicit, environ=environ, cache=cache):
        return found
    final = (cache or cache_folder()) / file.file_name
    if file.url is None:
        here = verify(file, environ=environ, cache=cache)
        wrong = f"{here.path} {here.fault}" if here.fault else f"{file.file_name} is missing here"
        raise WeightsError(f"{wrong}; install vqfr-media again")
    publisher = file.url.partition("/releases/")[0]
    put = f"put it into {final.parent}, or name its folder in {VARIABLE}"
    by_hand = f"get {file.url} by hand (published by {publisher}) and {put}"
    if offline:
        raise WeightsError(f"the {file.name} weights are not here and offline is set; {by_hand}")
    try:
        download(file.url, final, lambda path: _examine(file, path, final)[1], progress)
    except WeightsError as error:
        raise WeightsError(f"{error}; {by_hand}") from error.__cause__
    except OSError as error:
        raise WeightsError(
            f"cannot keep {file.file_name} in {final.parent}: {error.strerror or error}; "
            f"make room there or let it be written, or name a folder with the file in {VARIABLE}"
        ) from error
    _pin(file, final)
    return final


def locate(
    name: str | WeightFile,
    *,
    explicit: Path | None = None,
    environ: Mapping[str, str] | None = None,
    cache: Path | None = None,
) -> Path | None:
    """Like `find`, but never fetches: None where the weights are missing or damaged."""
    if explicit is not None:
        if not explicit.is_file():
            raise InputError(f"there is no weights file {explicit}")
        return explicit
    file = _lookup(name)
    for state, path in _places(file, environ, cache):
        if state == "provided":
            return path
        if not (fault := _examine(file, path, path)[1]):
            if state == "cached":
                _pin(file, path)
            return path
        logger.warning("%s %s; it is not used", path, fault)
    return None


def check_here(name: str | WeightFile, *, explicit: Path | None, offline: bool) -> None:
    """Refuses at once, reading nothing, what `find` would refuse for want of a file.

    Raises:
        InputError: `explicit` does not exist.
        OptionError: there are no weights of this name.
        WeightsError: they are nowhere on this machine, and `offline` forbids to fetch them.
    """
    if explicit is not None:
        locate(name, explicit=explicit)
    elif offline and not any(_places(_lookup(name), None, None)):
        find(name, offline=True)


def verify(
    name: str | WeightFile, *, environ: Mapping[str, str] | None = None, cache: Path | None = None
) -> WeightStatus:
    """Says what is here of the weights called `name`; reads the whole file, changes nothing."""
    file = _lookup(name)
    final = (cache or cache_folder()) / file.file_name
    for state, path in _places(file, environ, cache):
        digest, fault = _examine(file, path, final)
        if state != "provided" and fault:
            return WeightStatus(file, "damaged", path, digest, fault)
        return WeightStatus(file, state, path, digest)
    return WeightStatus(file, "missing", final)


def status(*, environ: Mapping[str, str] | None = None) -> list[WeightStatus]:
    """Runs `verify` for every file in `WEIGHTS`."""
    return [verify(name, environ=environ) for name in WEIGHTS]


def cache_folder() -> Path:
    """Names the folder in which fetched files are kept (`XDG_CACHE_HOME` moves it on Linux)."""
    from platformdirs import user_cache_path

    return user_cache_path("vqfr-media") / "weights"


def _lookup(name: str | WeightFile) -> WeightFile:
    if isinstance(name, WeightFile):
        return name
    if name not in WEIGHTS:
        raise OptionError(f"there are no weights {name!r}; there are {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def _places(
    file: WeightFile, environ: Mapping[str, str] | None, cache: Path | None
) -> Iterator[tuple[State, Path]]:
    """Lists where `file` may lie, first choice first."""
    named = (os.environ if environ is None else environ).get(VARIABLE, "")
    for place in (Path(part).expanduser() for part in named.split(os.pathsep) if part):
        if not place.exists():
            raise WeightsError(f"{VARIABLE} names {place}, which does not exist")
        for file_name in (file.file_name, *file.also_named):
            candidate = place / file_name if place.is_dir() else place
            if candidate.name == file_name and candidate.is_file():
                yield "provided", candidate
    bundled = Path(__file__).parent / "models" / file.file_name
    if bundled.is_file():
        yield "bundled", bundled
    cached = (cache or cache_folder()) / file.file_name
    if cached.is_file():
        yield "cached", cached


def _examine(file: WeightFile, path: Path, final: Path) -> tuple[str, str]:
    """Hashes `path`, and says what speaks against its being `file` ('' if nothing does)."""
    with path.open("rb") as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        size = source.tell()
        source.seek(0)
        start = source.read(2)
    if file.size is not None and size != file.size:
        return digest, f"has {size} bytes instead of {file.size}"
    if not digest.startswith(file.sha256 or ""):
        return digest, f"has the SHA-256 {digest}, which should begin with {file.sha256}"
    # Without a hash, at least a sign-in page must not become the file first seen.
    if final.suffix == ".pth" and start not in PTH_STARTS:
        return digest, "is not a PyTorch file"
    pin = _pin_path(file, final)
    if pin is not None and pin.is_file():
        first = pin.read_text(errors="replace")[:64].strip()
        if not digest.startswith(first):
            return digest, f"has the SHA-256 {digest}, and had {first} when first seen ({pin})"
    return digest, ""


def _pin_path(file: WeightFile, final: Path) -> Path | None:
    """Says where the hash first seen is kept, None for a file whose hash is known whole."""
    return None if len(file.sha256 or "") == 64 else final.with_name(f"{final.name}.sha256")


def _pin(file: WeightFile, final: Path) -> None:
    """Writes down the hash first seen, as `sha256sum --check` reads it."""
    pin = _pin_path(file, final)
    if pin is not None and not pin.exists():
        try:
            pin.write_text(f"{_examine(file, final, final)[0]}  {final.name}\n")
        except OSError as error:
            logger.warning("cannot write the hash first seen to %s: %s", pin, error)
