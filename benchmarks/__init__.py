"""Scripts that measure; each prints one JSON document last. README.md here holds the records."""
