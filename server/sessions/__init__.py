"""Sessions: from a client's chunks to the engine's ticks, and back."""
