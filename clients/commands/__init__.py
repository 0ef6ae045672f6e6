"""The commands of a client: stream, classify and demo."""
