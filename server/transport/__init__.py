"""Sockets and HTTP: what connects a session to the outside."""
