"""Three hundred damaged files: no hang, no traceback, and nothing missing without a word."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clips import packets
from tests.scenes import write_scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.errors import VqfrMediaError
from vqfr_media.media.read import open_video
from vqfr_media.options import EncodeOptions, RestoreOptions
from vqfr_media.pipeline import restore_video

pytestmark = pytest.mark.slow

FRAMES = 24
EACH = 50
H264 = {"preset": "ultrafast", "g": "8"}
# Container, and arguments of `write_scene`.
KINDS: dict[str, dict[str, Any]] = {
    ".mp4": {"codec": "libx264", "options": H264},
    ".mkv": {"codec": "libx264", "options": H264},
    ".ts": {"codec": "mpeg2video", "options": {"g": "8"}},
    ".avi": {"codec": "mpeg4", "options": {"g": "8"}},
    ".mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    ".vob": {"codec": "mpeg2video", "options": {"g": "8"}},
}


def damaged(content: bytes, seed: int) -> bytes:
    """Flips bytes, cuts the end off, or takes a piece out, by the seed."""
    chance = np.random.default_rng(seed)
    data = np.frombuffer(content, np.uint8).copy()
    match seed % 3:
        case 0:
            places = chance.integers(0, len(data), int(chance.integers(1, 30)))
            data[places] ^= chance.integers(1, 256, len(places), dtype=np.uint8)
            return data.tobytes()
        case 1:
            return content[: int(chance.integers(1, len(content)))]
        case _:
            start = int(chance.integers(0, len(content)))
            return content[:start] + content[start + int(chance.integers(1, 2000)) :]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    return {
        suffix: write_scene(folder / f"a{suffix}", frames=FRAMES, **settings).read_bytes()
        for suffix, settings in KINDS.items()
    }


@pytest.mark.parametrize("way", ["stop", "keep"])
@pytest.mark.parametrize("suffix", list(KINDS))
def test_damaged_files(tmp_path: Path, whole: dict[str, bytes], suffix: str, way: str) -> None:
    source, output = tmp_path / f"a{suffix}", tmp_path / "b.mkv"
    options = RestoreOptions(
        encode=EncodeOptions(codec="ffv1"), damaged="keep" if way == "keep" else "stop"
    )
    without_a_word = []
    for seed in range(EACH):
        source.write_bytes(damaged(whole[suffix], seed))
        try:
            summary = restore_video(
                source, output, options, engine=IdentityEngine(), detector=MarkerDetector()
            )
        except VqfrMediaError as error:
            refusal = str(error)
        else:
            refusal = ""
        if refusal:
            assert "\n" not in refusal
            assert str(source) in refusal or str(output) in refusal
            assert sorted(tmp_path.iterdir()) == [source]
            continue
        with open_video(output) as reader:
            count = sum(1 for _ in reader)
        assert count == summary.frames == len(packets(output, "video")[0])
        said = [w for w in summary.warnings if "clock" not in w and "counts time" not in w]
        if count < FRAMES and not (said or summary.damaged):
            without_a_word.append((seed, count))
        output.unlink()
    assert without_a_word == []
