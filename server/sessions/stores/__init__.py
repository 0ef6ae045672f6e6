"""Stores: keep sessions while no client is connected, or while the server is down."""
