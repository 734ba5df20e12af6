"""Scripts as a user runs them: through vspipe, into an encoder."""

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from tests.paths import ROOT

Vspipe = Callable[..., subprocess.CompletedProcess[bytes]]

HEAD = """
import numpy as np
import torch
import vapoursynth as vs
from tests.scenes import HEIGHT, WIDTH, scene
from tests.stand_ins import IdentityEngine, InvertingEngine, MarkerDetector
from vqfr_media.errors import EngineError
from vqfr_media.vapoursynth import vqfr

torch.set_num_threads(1)

def draw(n, f):
    frame, picture = f.copy(), scene(n)
    for plane in range(3):
        np.asarray(frame[plane])[...] = picture[..., plane]
    return frame

class Failing(IdentityEngine):
    def decode(self, crops, latents, *, fidelity):
        if self.decoded >= 4:
            raise EngineError("out of memory")
        return super().decode(crops, latents, fidelity=fidelity)

blank = vs.core.std.BlankClip(
    format=vs.RGB24, width=WIDTH, height=HEIGHT, length=12, fpsnum=25, fpsden=1
)
clip = blank.std.ModifyFrame(blank, draw).resize.Bicubic(format=vs.YUV420P8, matrix_s="170m")
"""
# Each refusal ends a script; the first two are caught here, so that one process tells all three.
REFUSED = """
import sys
for grey, options in ((True, {}), (False, {"model": "v1", "offline": True})):
    try:
        vqfr(clip.std.BlankClip(format=vs.GRAY32) if grey else clip, **options)
    except vs.Error as error:
        print(error, file=sys.stderr)
vqfr(clip, model="v3").set_output()
"""
GOOD = "vqfr(clip, engine=InvertingEngine(), detector=MarkerDetector(), num_streams=2).set_output()"


def test_into_an_encoder(vspipe: Vspipe, tmp_path: Path) -> None:
    done = vspipe(HEAD + GOOD, "-c", "y4m")
    assert done.returncode == 0, done.stderr.decode()
    # Nothing but the video on standard output, and nothing left allocated when the core is freed.
    assert done.stdout.startswith(b"YUV4MPEG2 ")
    assert b"Warning" not in done.stderr
    path = tmp_path / "out.mkv"
    with (
        av.open(io.BytesIO(done.stdout), mode="r", format="yuv4mpegpipe") as pipe,
        av.open(str(path), "w") as output,
    ):
        stream = output.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for index, picture in enumerate(pipe.decode(video=0)):
            picture.pts = index
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    with av.open(str(path)) as encoded:
        luma = [np.asarray(picture.to_ndarray())[:192] for picture in encoded.decode(video=0)]
    assert len(luma) == 12
    # The inverted disc: red has a luma of about 80, its negative of about 170.
    assert all(150 < picture[70, 70] < 190 for picture in luma[:2])


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            REFUSED,
            [
                "vqfr: clip is Gray32; integers of 8 to 16 bits and floats are handled",
                "vqfr: the v1 weights are not here and offline is set",
                "vqfr: model must be one of auto, v1, v2, lite",
            ],
        ),
        (
            "vqfr(clip, engine=Failing(batch_size=1), detector=MarkerDetector()).set_output()",
            [": out of memory"],
        ),
    ],
)
def test_what_goes_wrong_is_said_and_is_the_exit_code(
    vspipe: Vspipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VQFR_MEDIA_WEIGHTS", raising=False)
    done = vspipe(HEAD + script, "-c", "y4m")
    assert done.returncode == 1
    said = done.stderr.decode()
    assert [message for message in says if message not in said] == []
    assert done.stdout == b"" or done.stdout.startswith(b"YUV4MPEG2 ")
    assert b"Warning" not in done.stderr


MEASURE = """
import numpy as np
import torch
import vapoursynth as vs
from tests.scenes import HEIGHT, WIDTH, scene
from tests.stand_ins import IdentityEngine, MarkerDetector
from vqfr_media.vapoursynth import vqfr

torch.set_num_threads(1)
vs.core.num_threads = 2
vs.core.max_cache_size = 64
pictures = [scene(n) for n in range(20)]
blank = vs.core.std.BlankClip(
    format=vs.RGB24, width=WIDTH, height=HEIGHT, length=20, fpsnum=25, fpsden=1
)

def draw(n, f):
    frame = f.copy()
    for plane in range(3):
        np.asarray(frame[plane])[...] = pictures[n][..., plane]
    return frame

clip = blank.std.ModifyFrame(blank, draw).resize.Bicubic(format=vs.YUV420P8, matrix_s="170m")

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

out = vqfr(
    clip.std.Loop(100), engine=IdentityEngine(), detector=MarkerDetector(), num_streams=2
)
for n, frame in enumerate(out.frames(close=True)):
    if n % 200 == 199:
        print(resident())
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    resident = [int(line) for line in done.stdout.split()]
    assert len(resident) == 10  # 2000 frames
    # What is in flight at a moment differs by a few per cent; a leak of one small frame in every
    # ten would add 3 % from half to half.
    assert sum(resident[5:]) <= 1.02 * sum(resident[:5]), resident
    assert max(resident) <= 1.08 * min(resident), resident
