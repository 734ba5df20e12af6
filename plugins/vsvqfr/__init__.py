"""The name under which VapourSynth scripts look for a restorer: vs-<what>, here `vsvqfr`.

from vsvqfr import vqfr
clip = vqfr(clip, strength=0.8, tracks="tracks.json", person=1)

It is `vqfr_media.vapoursynth.vqfr` itself; options and errors are described there.
"""

from vqfr_media.vapoursynth import vqfr

__all__ = ["vqfr"]
