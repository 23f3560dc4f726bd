"""Line charts as inline SVG: no script, no network, colors by CSS class so that they follow the page's theme."""

from __future__ import annotations

import math
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 760
HEIGHT: Final = 240
LEFT: Final = 64
RIGHT: Final = 12
TOP: Final = 12
BOTTOM: Final = 34
TICKS_Y: Final = 4
TICKS_X_MAX: Final = 10
COLORS: Final = 6
"""Classes s0 to s5 of report.css."""


class Series(NamedTuple):
    name: str
    points: list[tuple[float, float]]
    """Seconds and value, by second; None-like gaps are simply left out."""


def line_chart(title: str, unit: str, series: list[Series], shaded_until: float = 0) -> str:
    """Returns a figure; seconds below ``shaded_until`` are the ramp."""
    points = [point for one in series for point in one.points]
    if not points:
        return f'<figure><figcaption>{escape(title)}</figcaption><p class="empty">nothing was measured</p></figure>'
    x_max = max([1.0, *[x for x, _ in points]])
    y_step = nice_step(max(y for _, y in points) / TICKS_Y)
    y_max = y_step * TICKS_Y
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    if shaded_until > 0:
        width = _x(min(shaded_until, x_max), x_max) - LEFT
        parts.append(f'<rect class="ramp" x="{LEFT}" y="{TOP}" width="{width:.1f}" height="{HEIGHT - TOP - BOTTOM}"/>')
    parts += _grid(x_max, y_step, y_max)
    for number, one in enumerate(series):
        parts.append(_line(one, number, x_max, y_max))
    parts.append("</svg>")
    caption = f"<figcaption>{escape(title)} <span>{escape(unit)}</span>{_legend(series)}</figcaption>"
    return f"<figure>{caption}{''.join(parts)}</figure>"


def nice_step(rough: float) -> float:
    """Returns the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below this."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * (1 - 1e-9))


def _x(value: float, x_max: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * value / x_max


def _y(value: float, y_max: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / y_max


def _grid(x_max: float, y_step: float, y_max: float) -> list[str]:
    parts = []
    for tick in range(TICKS_Y + 1):
        y = _y(tick * y_step, y_max)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick * y_step:,g}</text>')
    x_step = max(nice_step(x_max / TICKS_X_MAX), 1.0)
    for tick in range(int(x_max / x_step) + 1):
        x = _x(tick * x_step, x_max)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick * x_step:g} s</text>')
    return parts


def _line(one: Series, number: int, x_max: float, y_max: float) -> str:
    points = " ".join([f"{_x(x, x_max):.1f},{_y(y, y_max):.1f}" for x, y in one.points])
    return f'<polyline class="s{number % COLORS}" points="{points}"><title>{escape(one.name)}</title></polyline>'


def _legend(series: list[Series]) -> str:
    if len(series) < 2:
        return ""
    keys = [f'<i class="s{number % COLORS}"></i>{escape(one.name)}' for number, one in enumerate(series)]
    return '<span class="legend">' + " ".join([f"<b>{key}</b>" for key in keys]) + "</span>"
