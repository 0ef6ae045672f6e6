"""The wire, without input or output: messages, codec, conversation, errors."""
