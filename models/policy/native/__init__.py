"""The policy's compiled kernels; without them, torch computes the same more slowly."""
