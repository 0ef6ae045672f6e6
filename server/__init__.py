"""The online inference service: protocol, engine, sessions, transport."""
