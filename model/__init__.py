"""The event-based state space model, and the events it eats."""
