"""Recordings that clients send as files, read in processes of their own.

A file from a client is read by libraries in C, and a broken or hostile one may crash
its reader, keep it busy for ever or unfold into any amount of memory. So the server
reads none itself: `readers.py` starts processes that run `child.py`, whose memory and
time are limited, and receives checked events from them. A reader that fails costs the
recording that it read, and nobody else's.
"""
