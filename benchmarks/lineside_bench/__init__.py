"""Measurements of what an image costs, each a verb of `lineside measure`.

Latency, footprint, line and scaling need neither trainer nor exporter: they run on the device.
"""
