"""Online streaming inference for event cameras."""

__version__ = "0.1.0"
