"""Traces and metrics for OpenTelemetry, where `--otel` asks for them.

`spans` is what the rest of the server calls, and what does nothing without `--otel`;
only then are `otel`, `frames` and `metrics_export` imported, and OpenTelemetry by them.
"""
