"""The same network and images in other people's runtimes: `lineside measure peers`."""

from lineside_bench.peers.command import peers

__all__ = ["peers"]
