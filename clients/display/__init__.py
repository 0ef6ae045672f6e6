"""Views of a stream: statistics, plain text and a live picture."""
