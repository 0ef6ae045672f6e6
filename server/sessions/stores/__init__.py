"""Where sessions are kept while nobody is connected to them, or the server is down."""
