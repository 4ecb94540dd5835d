"""Moments by Triton kernels that read the activation once: float32 sums, in a fixed order, without atomics.

They run on a GPU, and on a CPU where TRITON_INTERPRET=1 makes Triton interpret them: slow, and the same numbers.
"""
