"""Data sets: reading them in, keeping them prepared, and the sample faces that are built in."""
