"""Folded blocks on an NVIDIA GPU, by Triton kernels where the library has none.

Depthwise 3x3: moments, gradients of kernel and bias, gradient of the input. 1x1: the same, as products on tensor cores.
Each kernel reads x once, and grad_output once. Sums are float32 or float64, in a fixed order, without atomics. On a CPU
they run, slowly and with the same results, where TRITON_INTERPRET=1 makes Triton interpret them.
"""
