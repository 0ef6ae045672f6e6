"""Several servers behind one placement: who is there, how full, and where to go."""
