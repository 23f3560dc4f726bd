"""Builds the package; with COMPILED=1 also the modules listed in pyproject.toml's [tool.compiled], by mypyc."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

from setuptools import setup


def extensions() -> list[object]:
    if os.environ.get("COMPILED") != "1":
        return []
    from mypyc.build import mypycify

    settings = tomllib.loads(Path("pyproject.toml").read_text())["tool"]["compiled"]
    return mypycify(sorted(settings["modules"]), opt_level=os.environ.get("MYPYC_OPT", "3"), strip_asserts=False, group_name="meridian")


setup(ext_modules=extensions())
