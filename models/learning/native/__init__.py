"""The learner's compiled kernels: what is not a product of large matrices."""
