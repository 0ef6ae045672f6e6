"""Measures the engine on an accelerator: `python -m benchmarks.accelerator`."""
