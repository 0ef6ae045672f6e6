"""Native CPU kernels of the network's inference, compiled by numba on first use."""
