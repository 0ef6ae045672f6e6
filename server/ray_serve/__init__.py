"""Ray Serve as control plane: it starts, checks, scales and ends replicas.

    Ray Serve's controller ── starts, checks, reconfigures, ends ──► Replica (an actor)
                                                                        │ starts, drains
    a client ── POST /v1/sessions ──► Serve's proxy ──► any Replica ──► a server process
        └────────── websocket, to the server that was named ──────────► its own port

No event passes through Ray. What a server is to the others stands in Redis
(`server.fleet`), as without Ray.
"""
