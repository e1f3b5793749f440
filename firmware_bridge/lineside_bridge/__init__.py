"""Bring a signed bundle into a smart sensor over a serial line."""

from lineside_bridge.errors import BridgeError

__all__ = ["BridgeError"]
