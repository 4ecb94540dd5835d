"""Folded training: the branches of a block computed as one convolution, from the moments of the block's input.

A branch is BN(w_i * x). With m and S the mean and covariance of the input patch over batch and positions, its batch
mean is w_i . m and its batch variance w_i^T S w_i, so that the sum of all branches is one convolution of x. README.md
has the mathematics, the cost and the limits.

Letters in the shapes of this package: N images of C channels, H x W pixels; G groups; T taps, the values of one
group's patch (channel, row, column); O output channels per group; B branches, the skip branch last; L output positions
per image.
"""
