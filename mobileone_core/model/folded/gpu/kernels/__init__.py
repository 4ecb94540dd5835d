"""Triton kernels. Triton compiles their source: its types, tuples and static loops differ from those of Python.

shape is (N, C, H, W), strides those of image, channel, row and column.
"""
