"""The command line is light to start and explains itself."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Final

import click
import pytest
from click.testing import CliRunner

from lineside.cli.main import lineside

# 0.3 s for `lineside --help` hold only while none of these is imported for it.
HEAVY: Final = (
    *("numpy", "cv2", "torch", "openvino", "onnxruntime", "onnx", "nncf", "timm", "lightning"),
    *("cryptography", "matplotlib", "paho", "msgspec"),
)


def verbs() -> list[str]:
    return lineside.list_commands(click.Context(lineside))


def commands(name: str) -> list[tuple[str, click.Command]]:
    """A verb, and its sub-verbs where it has some, by their whole names."""
    context = click.Context(lineside)
    command = lineside.get_command(context, name)
    assert command is not None
    found = [(name, command)]
    if isinstance(command, click.Group):
        found = [(f"{name} {sub}", command.commands[sub]) for sub in command.commands]
    return found


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys\n"
        "from lineside.cli.main import lineside\n"
        "lineside.main(['--help'], standalone_mode=False)\n"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(f'imported for --help: {heavy}' if heavy else 0)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done.stderr
    assert "Usage:" in done.stdout


def test_help_lists_every_verb_with_a_line_of_its_own() -> None:
    done = CliRunner().invoke(lineside, ["--help"])

    assert done.exit_code == 0, done.output
    for verb in verbs():
        assert re.search(rf"^  {verb} +\S", done.output, re.MULTILINE), f"{verb} has no help line"
    assert "..." not in done.output.split("Commands:")[1], "a first sentence was cut"


@pytest.mark.parametrize("verb", verbs())
def test_each_verb_has_a_help_with_an_example(verb: str) -> None:
    for name, command in commands(verb):
        done = CliRunner().invoke(lineside, [*name.split(), "--help"])

        assert done.exit_code == 0, done.output
        assert re.search(rf"lineside {name} ", done.output.split("Usage:")[1].split("\n", 1)[1]), (
            f"the help of `lineside {name}` shows no example"
        )
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"lineside {name}: {parameter.opts[0]} has no help"


@pytest.mark.parametrize("verb", verbs())
def test_wrong_use_exits_with_2_and_no_trace(verb: str) -> None:
    program = Path(sys.executable).with_name("lineside")

    done = subprocess.run(
        [str(program), verb, "--no-such-option"], capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_every_entry_point_is_a_verb() -> None:
    points = {point.name for point in metadata.entry_points(group="lineside.commands")}

    assert points == set(verbs())
