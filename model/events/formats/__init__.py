"""Readers of recordings, one module a file format."""
