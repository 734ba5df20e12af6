"""Modulated deformable convolution with float32 coordinates, for data of any precision.

`operator` is the torch operator, `kernel` its Triton kernel for GPUs, `tiling` how the kernel cuts
a shape up, `ptx` the kernel compiled without a GPU, `tensorrt_plugin` and `converter` its way into
TensorRT engines. See docs/deform_conv.md.
"""
