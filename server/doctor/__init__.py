"""`saccade doctor`: what would keep a server from serving, and what to do about it."""
