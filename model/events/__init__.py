"""Events: their type, encodings, recordings and a simulated camera (numpy only)."""
