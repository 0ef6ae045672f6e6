"""How a stream is shown: statistics, plain text and a live view."""
