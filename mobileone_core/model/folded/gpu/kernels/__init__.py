"""Triton kernels. Triton reads their source: its types, tuples and static loops are not quite those of Python."""
