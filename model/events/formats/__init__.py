"""Readers of recordings, one module a file format; `recordings.py` lists them."""
