"""A load generator: many sessions that speak the wire without the SDK, and are timed.

`saccade bench` and `python -m benchmarks.serve` measure servers with it. Worker
processes (`worker`) run the sessions (`session`), over sockets of their own (`wire`);
`crew` starts the workers and adds up what they measured (`measured`).
"""
