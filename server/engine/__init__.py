"""The engine: a pool of slots, a scheduler, and the thread that owns the device."""
