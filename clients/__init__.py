"""The Python SDK, which `saccade` makes public, and the commands of a client."""
