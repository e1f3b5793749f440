"""One inspection by stage, and how close it comes to the bare engine."""

from lineside_bench.latency.command import latency

__all__ = ["latency"]
