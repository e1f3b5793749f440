"""Options that mean the same in every measurement; the names in brackets arrive.

`@suite_argument` (suite), `@quick_option` (quick), `@out_option` (out).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

suite_argument: Final = click.argument(
    "suite", type=click.Path(path_type=Path, file_okay=False, exists=True)
)
"""Folder that `lineside measure bundles` wrote."""

quick_option: Final = click.option(
    "--quick", is_flag=True, help="A look: fewer models, rounds and sizes, about half a minute."
)

out_option: Final = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for NAME.json and NAME.png; without it nothing is written.",
)
