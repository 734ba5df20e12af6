"""The restoration networks: torch only, pure `forward`, official parameter names.

Images are `(N, 3, S, S)` RGB in [-1, 1]; latents are the encoder's, before the codebook look-up.
"""
