"""Compiling Python source that we generated.

Codecs and plans are unrolled per table and per statement.  Whatever comes from outside
(prefixes, labels, values) enters through the namespace and is a name in the source;
only text and integers made by us are pasted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any


def define_function(
    name: str, parameters: str, body: Sequence[str], namespace: Mapping[str, Any]
) -> Callable[..., Any]:
    """Returns the function ``def name(parameters)`` whose lines are ``body``, unindented, seeing only ``namespace``."""
    source = "\n".join([f"def {name}({parameters}):", *("    " + line for line in body)])
    scope = dict(namespace)
    exec(compile(source, f"<generated {name}>", "exec"), scope)  # noqa: S102  # the source is ours, see the module docstring
    function: Callable[..., Any] = scope[name]
    return function
