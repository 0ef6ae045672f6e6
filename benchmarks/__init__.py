"""Benchmarks: the source of every figure of speed in the documentation."""
