"""The commands of the client: stream, classify and demo."""
