"""The simulated event camera and the scenes that move before it."""
