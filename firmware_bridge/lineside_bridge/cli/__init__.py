"""Verbs of the command line: `lineside flash`, `lineside sensor …`."""
