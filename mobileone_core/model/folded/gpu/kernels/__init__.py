"""Triton kernels. Triton compiles their source: its types, tuples and static loops differ from those of Python.

Triton 3.6 takes no element of a tuple of constants in a shape: it is first given a name, declared constexpr.
shape is (N, C, H, W), strides those of image, channel, row and column.
"""
