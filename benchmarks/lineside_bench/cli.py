"""`lineside measure NAME`: each measurement is a file of its own and a line in the table here."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

# By name: what it answers. The module of the same name holds a command of the same name, and is
# imported when it is used: `lineside --help` imports this file.
MEASUREMENTS: Final = {
    "bundles": "Make the sealed models that the others measure (needs trainer and exporter).",
    "latency": "One inspection by stage: each model, engine, form, thread count and batch.",
    "footprint": "Size, start, first verdict and memory, beside the bare engine's.",
    "peers": "The same model and images in other people's runtimes.",
    "line": "Trigger to PLC through a real broker, and the rate the line can hold.",
    "scaling": "Latency and memory as image, patches, regions, memory bank and stations grow.",
    "device": "Latency, footprint, line and scaling, packed in one file to send back.",
    "training": "Images a second of pre-training and tuning, beside a plain loop (needs trainer).",
    "flash": "Bytes a second into a sensor, against what the framing carries (needs bridge).",
    "compare": "What became slower beyond noise between two recorded results.",
    "readme": "Write the README's table of figures from the recorded results.",
}


class _Measurements(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(MEASUREMENTS)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Measurements"):
            formatter.write_dl(list(MEASUREMENTS.items()))

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in MEASUREMENTS:
            return None
        command = getattr(import_module(f"lineside_bench.{name}"), name)
        assert isinstance(command, click.Command), f"lineside_bench.{name} holds no command"
        return command


@click.group(cls=_Measurements)
def measure() -> None:
    """Measure what an image costs on this machine, from trigger to PLC.

    Each measurement prints a table, and with --out keeps it as JSON and PNG. Rounds are
    interleaved, so that a busy machine hurts everything alike: believe ratios within one run.

    Example: lineside measure bundles --out suite && lineside measure latency suite --out results
    """
