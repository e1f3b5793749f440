"""A grid of methods and settings, each piece a run of its own, all of them one table."""
