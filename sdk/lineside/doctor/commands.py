"""Who may tell a station what, as its file has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lineside.doctor.check import Check, State
from lineside.errors import ConfigurationError
from lineside.remote.keys import CommandKeys, load_command_keys
from lineside.remote.settings import CommandSettings


def check_commands(settings: CommandSettings, revocations: Sequence[Path]) -> list[Check]:
    """Read the keys of ``[commands]``; nothing without any.

    Args:
        settings: the section.
        revocations: files and folders of the machine that may revoke them.
    """
    if not settings.keys:
        return []
    try:
        keys = load_command_keys(settings.keys, revocations=revocations)
    except ConfigurationError as error:
        remedy = "copy the .pub file there, or correct [[commands.keys]]: docs/commands.md"
        return [Check(topic="commands", state=State.MISSING, found=str(error), remedy=remedy)]
    return [Check(topic="commands", state=State.OK, found=_told(keys))]


def _told(keys: CommandKeys) -> str:
    def may(key_id: bytes) -> str:
        return "revoked" if keys.is_revoked(key_id) else ", ".join(sorted(keys.verbs[key_id]))

    return "; ".join(f"{key.name}: {may(key_id)}" for key_id, key in keys.keys.items())
