"""Browser stories: a real server on a free port, driven by a real browser; one file a story."""
