"""Counts what becomes of the events of a session; metrics implement it."""

from __future__ import annotations

from typing import Protocol


class SessionObserver(Protocol):
    """Counts what becomes of the events of a model's sessions."""

    def scored(self, latency_s: float, lag_s: float, late: int) -> None:
        """Some ticks of a session were scored.

        Args:
            latency_s: From the arrival of their newest event, s.
            lag_s: From the arrival of their oldest, s.
            late: How many of their events were older than the session allows.
        """

    def reported(self, results: int) -> None:
        """Results were sent."""

    def dropped(self, events: int) -> None:
        """Events were dropped to make room for newer ones, or to stay fresh."""

    def withheld(self, events: int) -> None:
        """So much more credit is withheld than before, or less, to stay fresh."""


class Unobserved:
    """An observer that counts nothing."""

    def scored(self, latency_s: float, lag_s: float, late: int) -> None:
        """Count nothing."""

    def reported(self, results: int) -> None:
        """Count nothing."""

    def dropped(self, events: int) -> None:
        """Count nothing."""

    def withheld(self, events: int) -> None:
        """Count nothing."""
