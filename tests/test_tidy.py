"""Style that a machine can hold: layers, purity, sizes, banned calls, each with what to use instead."""

from __future__ import annotations

import ast
import gc
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["base", "kvtier", "txn", "planner", "sql", "wire"]
"""From the bottom up: a package imports itself and what stands before it."""
ASSEMBLERS = ["node", "sim", "meridian"]
"""They put the layers together; ``meridian`` is what applications import, on top of all."""
WORLD = {
    "time": "base.seams.Clock", "random": "base.seams.Rng", "secrets": "base.seams.Rng", "uuid": "base.seams.Rng",
    "asyncio": "base.seams.Scheduler", "threading": "base.seams.Scheduler", "concurrent": "base.seams.Scheduler",
    "multiprocessing": "base.seams.Scheduler", "socket": "wire.io.ConnectionIo", "subprocess": "nothing", "pickle": "msgspec structs",
    "marshal": "msgspec structs", "logging": "an on_bug callable",
}  # fmt: skip
WORLD_ALLOWED = {"kvtier/engine/rocks.py": ("os", "pathlib"), "kvtier/engine/logsync.py": ("os", "pathlib")}
FILE_LINES_MAX = 1000
FUNCTION_LINES_MAX = 100


@cache
def sources() -> dict[str, ast.Module]:
    """Every module of the layers, parsed."""
    found = {}
    # CPython 3.11: a finalizer that runs during ast.parse lets it fail with a SystemError (recursion depth mismatch).
    gc.disable()
    try:
        for package in [*LAYERS, *ASSEMBLERS, "tpcc"]:
            for path in sorted((ROOT / package).rglob("*.py")):
                found[str(path.relative_to(ROOT))] = ast.parse(path.read_text())
    finally:
        gc.enable()
    return found


def imported(tree: ast.Module) -> list[tuple[str, int]]:
    """(top-level name, line) of every import, those inside functions too."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name.split(".")[0], node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            names.append((node.module.split(".")[0], node.lineno))
    return names


def test_imports_point_down() -> None:
    wrong = []
    for path, tree in sources().items():
        package = path.split("/")[0]
        if package in LAYERS:
            forbidden = [*LAYERS[LAYERS.index(package) + 1 :], *ASSEMBLERS, "tpcc", "tests", "bench"]
        elif package == "tpcc":
            forbidden = [*LAYERS, *ASSEMBLERS]
        else:
            forbidden = ["tests", "bench"]
        wrong += [f"{path}:{line} imports {name}" for name, line in imported(tree) if name in forbidden]
    assert wrong == []


def test_cores_do_not_touch_the_world() -> None:
    wrong = []
    for path, tree in sources().items():
        if path.split("/")[0] not in LAYERS:
            continue
        for name, line in imported(tree):
            if name in WORLD and name not in WORLD_ALLOWED.get(path, ()):
                wrong.append(f"{path}:{line} imports {name}; use {WORLD[name]}")
    assert wrong == []


def test_no_datetime_now_and_no_open() -> None:
    wrong = []
    for path, tree in sources().items():
        if path.split("/")[0] not in LAYERS:
            continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            text = ast.unparse(node.func)
            if text in ("open", "input", "print") or (
                text.endswith((".now", ".utcnow", ".today")) and text.split(".")[0] in ("datetime", "date")
            ):
                wrong.append(f"{path}:{node.lineno} calls {text}; take it from a seam")
    assert wrong == []


def test_sets_are_not_iterated() -> None:
    """Iterating a set literal or a set() call: the order depends on the hash seed; sort it, or use a dict."""
    wrong = []
    for path, tree in sources().items():
        for node in ast.walk(tree):
            iterators = []
            if isinstance(node, ast.For):
                iterators.append(node.iter)
            elif isinstance(node, (ast.ListComp, ast.GeneratorExp, ast.DictComp)):
                iterators += [generator.iter for generator in node.generators]
            for iterator in iterators:
                is_call = (
                    isinstance(iterator, ast.Call)
                    and isinstance(iterator.func, ast.Name)
                    and iterator.func.id in ("set", "frozenset")
                )
                if isinstance(iterator, (ast.Set, ast.SetComp)) or is_call:
                    wrong.append(f"{path}:{iterator.lineno}")
    assert wrong == []


def test_files_and_functions_can_be_read_at_one_sitting() -> None:
    wrong = []
    for path, tree in sources().items():
        lines = (ROOT / path).read_text().count("\n")
        if lines > FILE_LINES_MAX:
            wrong.append(f"{path} has {lines} lines; split it by subject")
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    wrong.append(f"{path}:{node.lineno} {node.name} has {length} lines; give its parts names")
    assert wrong == []


def test_no_bare_except_and_no_swallowed_error() -> None:
    wrong = []
    for path, tree in sources().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler) and node.type is None:
                wrong.append(f"{path}:{node.lineno} bare except; name what you expect")
    assert wrong == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [path for path, tree in sources().items() if not ast.get_docstring(tree)]
    assert silent == []


COMPILED_LINE = "Compiled with mypyc; see docs/STYLE.md#compiled."


def compiled_modules() -> list[str]:
    listed: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["compiled"]["modules"]
    return listed


def test_compiled_modules_say_so() -> None:
    """The list in pyproject.toml and the last lines of the docstrings agree."""
    saying = [
        path for path, tree in sources().items() if (ast.get_docstring(tree) or "").splitlines()[-1:] == [COMPILED_LINE]
    ]
    assert sorted(saying) == sorted(compiled_modules())


def test_compiled_modules_have_their_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text().split("[tool.compiled]")[1]
    assert [
        name for name in compiled_modules() if not re.search(rf'^    "{re.escape(name)}",  # \w', text, re.MULTILINE)
    ] == []


def test_compiled_modules_avoid_what_mypyc_cannot_do() -> None:
    """Structs lose the types of their fields, nested classes do not compile, native objects take no weak reference."""
    wrong = []
    for path in compiled_modules():
        for node in ast.walk(sources()[path]):
            if isinstance(node, ast.ClassDef):
                bases = [ast.unparse(base) for base in node.bases]
                if "Struct" in bases or "Protocol" in bases:
                    wrong.append(
                        f"{path}:{node.lineno} {node.name} is a {bases[0]}; move it to a module that stays pure"
                    )
                if "Error" in "".join(bases):
                    wrong.append(f"{path}:{node.lineno} {node.name} is an error; move it to base.errors")
                wrong += [
                    f"{path}:{inner.lineno} nested class" for inner in node.body if isinstance(inner, ast.ClassDef)
                ]
        wrong += [
            f"{path}:{line} imports weakref; keep the object in a pure module"
            for name, line in imported(sources()[path])
            if name == "weakref"
        ]
    assert wrong == []


def test_symbols_of_the_architecture_exist() -> None:
    """ARCHITECTURE.md names modules; each must be there, so that the map cannot rot."""
    text = (ROOT / "ARCHITECTURE.md").read_text()
    names = re.findall(r"`((?:base|kvtier|txn|planner|sql|wire|node)\.[a-z_]+)", text)
    missing = []
    for name in sorted(set(names)):
        path = ROOT / name.replace(".", "/")
        if not path.with_suffix(".py").exists() and not path.is_dir():
            missing.append(name)
    assert missing == []


@pytest.mark.parametrize("path", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/dependencies.md"])
def test_documents_have_one_title(path: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / path).read_text(), flags=re.DOTALL)
    assert len(re.findall(r"^# ", text, flags=re.MULTILINE)) == 1


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    document = (ROOT / "docs/dependencies.md").read_text()
    names = [re.split(r"[\[<>=;~! ]", dependency)[0] for dependency in project["dependencies"]]
    assert [name for name in names if name not in document] == []
