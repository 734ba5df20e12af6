"""The Triton kernel: a deformable convolution as one matrix product whose left side is sampled.

One program computes a tile of output pixels × output channels. It walks over (offset group, tap,
block of channels); at each step it samples its pixels' channels (four neighbours, mixed in float32)
and multiplies them with the weights of that step. Nothing of size C·K·K·h·w is ever written.

The order of the parameters is that of TensorRT's ahead-of-time plugins: inputs, int32 values,
outputs. The weights are laid out (KH, KW, C, CO): what neighbouring threads read is contiguous.
"""

# ruff: noqa: N803, N806  (constants of the compiled kernel are named as constants)

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def deform_conv_kernel(  # type: ignore[no-untyped-def]
    x_ptr,
    offset_ptr,
    mask_ptr,
    weight_ptr,
    bias_ptr,
    PIXELS,  # N·OH·OW
    y_ptr,
    C: tl.constexpr,
    H: tl.constexpr,
    W: tl.constexpr,
    CO: tl.constexpr,
    OH: tl.constexpr,
    OW: tl.constexpr,
    GROUPS: tl.constexpr,
    KH: tl.constexpr,
    KW: tl.constexpr,
    STRIDE: tl.constexpr,
    PADDING: tl.constexpr,
    DILATION: tl.constexpr,
    NHWC: tl.constexpr,
    TILE_PIXELS: tl.constexpr,
    TILE_OUTPUTS: tl.constexpr,
    TILE_CHANNELS: tl.constexpr,
):
    """See the module; the constants are those of `tiling.Convolution` and `tiling.Tile`."""
    TAPS: tl.constexpr = KH * KW
    GROUP_CHANNELS: tl.constexpr = C // GROUPS
    BLOCKS: tl.constexpr = (GROUP_CHANNELS + TILE_CHANNELS - 1) // TILE_CHANNELS
    OUTPUT_TILES: tl.constexpr = (CO + TILE_OUTPUTS - 1) // TILE_OUTPUTS
    AREA: tl.constexpr = OH * OW
    # Threads run along the last dimension of a tile, which should be what is contiguous in memory:
    # tiles are (pixels, channels) in NHWC, (channels, pixels) in NCHW, where neighbouring pixels
    # mostly sample neighbouring places. A vector becomes a tile by the dimension it lacks.
    CHANNEL_DIM: tl.constexpr = 1 if NHWC else 0
    PIXEL_DIM: tl.constexpr = 0 if NHWC else 1

    # Programs of the same pixels are neighbours, so that they find their samples in the cache.
    program = tl.program_id(0)
    pixel = (program // OUTPUT_TILES) * TILE_PIXELS + tl.arange(0, TILE_PIXELS)
    output = (program % OUTPUT_TILES) * TILE_OUTPUTS + tl.arange(0, TILE_OUTPUTS)
    channel = tl.arange(0, TILE_CHANNELS)
    live = pixel < PIXELS
    image = (pixel // AREA).to(tl.int64)  # a batch may hold more than 2^31 values, an image not
    place = pixel % AREA
    first_y = (place // OW) * STRIDE - PADDING
    first_x = (place % OW) * STRIDE - PADDING
    offsets = offset_ptr + image * (GROUPS * TAPS * 2 * AREA) + place
    masks = mask_ptr + image * (GROUPS * TAPS * AREA) + place
    planes = x_ptr + image * (C * H * W)
    next_column: tl.constexpr = C if NHWC else 1
    next_channel: tl.constexpr = 1 if NHWC else H * W

    if NHWC:
        total = tl.zeros((TILE_PIXELS, TILE_OUTPUTS), dtype=tl.float32)
    else:
        total = tl.zeros((TILE_OUTPUTS, TILE_PIXELS), dtype=tl.float32)
    # One flat loop: Triton overlaps loads with arithmetic in innermost loops only, and the channels
    # of a group are often a single block.
    for step in range(GROUPS * TAPS * BLOCKS):
        moved = step // BLOCKS  # counts (group, tap)
        tap = moved % TAPS
        within = (step % BLOCKS) * TILE_CHANNELS + channel
        chosen = (moved // TAPS) * GROUP_CHANNELS + within
        real = within < GROUP_CHANNELS

        dy = tl.load(offsets + moved * 2 * AREA, mask=live, other=0.0).to(tl.float32)
        dx = tl.load(offsets + (moved * 2 + 1) * AREA, mask=live, other=0.0).to(tl.float32)
        strength = tl.load(masks + moved * AREA, mask=live, other=0.0).to(tl.float32)
        y = (first_y + (tap // KW) * DILATION).to(tl.float32) + dy
        x = (first_x + (tap % KW) * DILATION).to(tl.float32) + dx
        inside = live & (y > -1.0) & (y < H) & (x > -1.0) & (x < W)
        # Far outside, where a float fits no int32, there is nothing to sample. NaN stays NaN.
        y = tl.where(inside | (y != y), y, 0.0)
        x = tl.where(inside | (x != x), x, 0.0)
        low, right = y - tl.floor(y), x - tl.floor(x)
        top, low = (1.0 - low) * strength, low * strength
        row = tl.where(inside, tl.floor(y), 0.0).to(tl.int32)
        column = tl.where(inside, tl.floor(x), 0.0).to(tl.int32)

        corner = tl.expand_dims(planes + (row * W + column) * next_column, CHANNEL_DIM)
        source = corner + tl.expand_dims(chosen * next_channel, PIXEL_DIM)
        in_top, in_low = inside & (row >= 0), inside & (row < H - 1)
        in_left, in_right = column >= 0, column < W - 1
        sample = _shared(source, in_top & in_left, real, top * (1.0 - right), CHANNEL_DIM)
        source += next_column
        sample += _shared(source, in_top & in_right, real, top * right, CHANNEL_DIM)
        source += W * next_column
        sample += _shared(source, in_low & in_right, real, low * right, CHANNEL_DIM)
        source -= next_column
        sample += _shared(source, in_low & in_left, real, low * (1.0 - right), CHANNEL_DIM)

        row_of_weights = tl.expand_dims((tap * C + chosen) * CO, CHANNEL_DIM)
        weights = weight_ptr + row_of_weights + tl.expand_dims(output, PIXEL_DIM)
        known = tl.expand_dims(real, CHANNEL_DIM) & tl.expand_dims(output < CO, PIXEL_DIM)
        factor = tl.load(weights, mask=known, other=0.0)
        # "ieee": no TF32 for float32 data; it says nothing about the others.
        if NHWC:
            total = tl.dot(sample.to(factor.dtype), factor, total, input_precision="ieee")
        else:
            total = tl.dot(factor, sample.to(factor.dtype), total, input_precision="ieee")

    bias = tl.load(bias_ptr + output, mask=output < CO, other=0.0).to(tl.float32)
    total += tl.expand_dims(bias, PIXEL_DIM)
    kept = tl.expand_dims(live, CHANNEL_DIM) & tl.expand_dims(output < CO, PIXEL_DIM)
    if NHWC:
        results = tl.expand_dims(y_ptr + pixel.to(tl.int64) * CO, 1) + output
    else:
        results = y_ptr + image * (CO * AREA) + place + tl.expand_dims(output * AREA, 1)
    tl.store(results, total.to(y_ptr.dtype.element_ty), mask=kept)


@triton.jit  # type: ignore[untyped-decorator]
def _shared(source, there, real, share, CHANNEL_DIM: tl.constexpr):  # type: ignore[no-untyped-def]
    """Loads one neighbour's part of the samples: zero where the image or the group ends."""
    known = tl.expand_dims(there, CHANNEL_DIM) & tl.expand_dims(real, 1 - CHANNEL_DIM)
    value = tl.load(source, mask=known, other=0.0).to(tl.float32)
    return value * tl.expand_dims(share, CHANNEL_DIM)
