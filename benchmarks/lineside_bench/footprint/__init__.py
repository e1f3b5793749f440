"""What Lineside takes on a device: disk, time to start, memory."""

from lineside_bench.footprint.command import footprint

__all__ = ["footprint"]
