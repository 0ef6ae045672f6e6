"""The Python SDK and the command-line clients; never imports JAX."""
