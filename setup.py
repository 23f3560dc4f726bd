"""Builds the package; with COMPILED=1 also the modules listed in pyproject.toml's [tool.compiled], by mypyc."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from setuptools import setup

MYPY_OPTIONS = ("--follow-imports=silent", "--no-warn-unused-ignores")
"""The listed modules must be right here; of all others ``make types`` takes care."""


def extensions() -> list[object]:
    if os.environ.get("COMPILED") != "1":
        return []
    from mypyc.build import mypycify

    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["compiled"]
    return mypycify(
        [*MYPY_OPTIONS, *sorted(settings["modules"])],
        opt_level=os.environ.get("MYPYC_OPT", "2"),
        debug_level="0",
        strip_asserts=False,
        group_name="meridian",
    )


setup(ext_modules=extensions())
