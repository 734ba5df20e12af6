"""The VapourSynth filter: the restoration as a clip, at random access and with the same bits.

from vqfr_media.vapoursynth import vqfr
clip = vqfr(clip, model="v2")
"""

from vqfr_media.vapoursynth.filter import vqfr

__all__ = ["vqfr"]
