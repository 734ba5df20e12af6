"""The table of weights files: what each is, where it is published, and which bytes it has.

Hash and licence stand here and nowhere else. A file with an address is fetched from there; one
without comes with this package, in `models/`, beside the card that says how it was made.
"""

from collections.abc import Mapping
from dataclasses import dataclass


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
            size=14_070_158,
            sha256="604aa8f01f025f88f3f12222ff580490d83dbd31ee3241a879aa05d2e3096eb8",
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
            sha256="31c0aa94c68ae127106756c1a5c8ea9c4c7f3e5f734ca62aa159a6c39542f1c4",
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
