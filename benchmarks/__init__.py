"""Measurements: every claim of speed in the documentation comes from here."""
