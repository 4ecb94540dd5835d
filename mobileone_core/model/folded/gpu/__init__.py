"""Folded blocks on an NVIDIA GPU: what the library has no kernel for, by Triton.

Depthwise 3x3: moments, gradients of kernel and bias, gradient to the input. 1x1: the same, as products on tensor cores.
Each reads x once, and what comes back once; sums are float32 at least, in a fixed order, without atomics. On a CPU they
run where TRITON_INTERPRET=1 makes Triton interpret them: slow, and the same computation.
"""
