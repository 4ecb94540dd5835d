"""Training with one convolution a block: batch statistics of every branch from the moments of the block's input.

A branch is BN(w_i * x). With m and S the mean and covariance of the input patch over batch and positions, its batch
mean is w_i . m and its batch variance w_i^T S w_i, so that the sum of all branches is one convolution of x.
"""
