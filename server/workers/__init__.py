"""A server of several processes: workers with sockets and sessions, one engine.

    supervisor ── starts, restarts, drains ──► worker 0 … worker N-1, engine
        ▲ calls (peer.py) over a socket pair with each

    worker ── commands, outputs (channel.py) over a Unix socket ── engine
           └─ pages of ticks and scores in shared memory ─────────┘

The supervisor never touches events. A worker owns sockets, protocol and sessions, and
leases a fixed share of each model's slots. The engine process owns the device.
"""
