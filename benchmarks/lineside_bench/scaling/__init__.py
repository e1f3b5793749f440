"""How latency and memory grow, and by which power."""

from lineside_bench.scaling.command import scaling

__all__ = ["scaling"]
