"""Three kinds of plots, as SVG that a page holds: columns, meters and a line.

Colours and fonts come from the page's style, so that plots are as light or dark as it is. They are drawn at the width
of a phone and grow with the page.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlx_integrations.migration.report.markup import Markup, tag

__all__ = ["Meter", "Point", "columns", "line", "meters", "short_number", "ticks"]

_WIDTH: Final = 340.0
_HEIGHT: Final = 220.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 10.0, 26.0, 44.0
_METER_HEIGHT: Final = 38.0
_LEAST_MARGIN: Final = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A share from 0 to 1, and what it is compared with.

    Attributes:
        label: What it is.
        value: The share.
        mark: What it is compared with, drawn as a line across; `None` for nothing.
        shown: The share, in words.
    """

    label: str
    value: float
    mark: float | None = None
    shown: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a line; one with a label is drawn larger."""

    x: float
    y: float
    label: str = ""
    title: str = ""


def ticks(least: float, most: float, count: int = 5) -> list[float]:
    """Round numbers between two values: about so many of them, in steps of 1, 2 or 5 times a power of ten."""
    span = most - least
    if not math.isfinite(span) or span <= _LEAST_MARGIN:
        return [least]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= rough * (1 - 1e-9))
    first = math.ceil(least / step - 1e-9)
    last = math.floor(most / step + 1e-9)
    return [number * step for number in range(first, last + 1)] or ticks(least, most, 2 * count)


def short_number(value: float) -> str:
    """A number with as many digits as a tick or a table needs."""
    if value == 0 or abs(value) < _LEAST_MARGIN:
        return "0"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def columns(values: Sequence[float], labels: Sequence[str], *, title: str, across: str, upwards: str) -> Markup:
    """One column for each value.

    Args:
        values: None of them negative.
        labels: Below each column.
        title: What is seen, for people who do not see it.
        across: What the labels are.
        upwards: What the values are.
    """
    most = max([*values, _LEAST_MARGIN])
    marks = ticks(0, most, 4)
    wide = (_WIDTH - _LEFT - _RIGHT) / max(len(values), 1)
    shapes = [*_rules(marks, most)]
    for place, (value, label) in enumerate(zip(values, labels, strict=True)):
        x, y = _LEFT + place * wide, _up(value, 0, most)
        name = tag("title", f"{label}: {short_number(value)}")
        width, height = max(wide - 4, 1.0), _HEIGHT - _BOTTOM - y
        shapes.append(tag("rect", name, class_="bar", x=x + 2, y=y, width=width, height=height, rx=2.0))
        shapes.append(_text(label, x + wide / 2, _HEIGHT - _BOTTOM + 17, anchor="middle"))
    shapes += _axes(across, upwards)
    return _drawing(shapes, _HEIGHT, title)


def meters(rows: Sequence[Meter], *, title: str) -> Markup:
    """One bar below the other, each on a track from 0 to 1.

    Args:
        rows: The bars.
        title: What is seen, for people who do not see it.
    """
    left, wide = 4.0, _WIDTH - 8.0
    shapes: list[Markup] = []
    for place, row in enumerate(rows):
        y = place * _METER_HEIGHT
        shapes.append(_text(row.label, left, y + 14, class_="label"))
        shapes.append(_text(row.shown, left + wide, y + 14, anchor="end", class_="value"))
        shapes.append(tag("rect", class_="track", x=left, y=y + 21, width=wide, height=9.0, rx=2.0))
        share = min(max(row.value, 0.0), 1.0)
        shapes.append(tag("rect", class_="bar", x=left, y=y + 21, width=wide * share, height=9.0, rx=2.0))
        if row.mark is not None:
            x = left + wide * min(max(row.mark, 0.0), 1.0)
            shapes.append(tag("line", class_="mark", x1=x, x2=x, y1=y + 18, y2=y + 33))
    return _drawing(shapes, len(rows) * _METER_HEIGHT, title)


def line(points: Sequence[Point], *, title: str, across: str, upwards: str) -> Markup:
    """A line through points, from left to right.

    Args:
        points: At least one.
        title: What is seen, for people who do not see it.
        across: What x is.
        upwards: What y is.
    """
    ordered = sorted(points, key=lambda point: point.x)
    least_x, most_x = _padded([point.x for point in ordered])
    least_y, most_y = _padded([point.y for point in ordered])
    wide = _WIDTH - _LEFT - _RIGHT

    def right(x: float) -> float:
        return _LEFT + wide * (x - least_x) / (most_x - least_x)

    shapes = [*_rules(ticks(least_y, most_y), most_y, least_y)]
    for mark in ticks(least_x, most_x, 5):
        shapes.append(_text(short_number(mark), right(mark), _HEIGHT - _BOTTOM + 17, anchor="middle"))
    rises = ordered[-1].y >= ordered[0].y
    places = [(right(point.x), _up(point.y, least_y, most_y)) for point in ordered]
    shapes.append(tag("polyline", class_="curve", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places)))
    for point, (x, y) in zip(ordered, places, strict=True):
        name = tag("title", point.title or point.label)
        shapes.append(tag("circle", name, class_="dot", cx=x, cy=y, r=3.5 if point.label else 1.8))
        if point.label:
            place, anchor = (x - 6, "end") if rises else (x + 6, "start")  # the side that the line leaves free
            shapes.append(_text(point.label, place, y - 6, anchor=anchor, class_="label"))
    shapes += _axes(across, upwards)
    return _drawing(shapes, _HEIGHT, title)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    least, most = min(values), max(values)
    margin = (most - least) * 0.05 or abs(most) * 0.05 or 1.0
    return least - margin, most + margin


def _up(value: float, least: float, most: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - least) / (most - least)


def _rules(marks: Sequence[float], most: float, least: float = 0.0) -> list[Markup]:
    """Lines across, with their values at the left."""
    shapes = []
    for mark in marks:
        y = _up(mark, least, most)
        shapes.append(tag("line", class_="rule", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y))
        shapes.append(_text(short_number(mark), _LEFT - 6, y + 4, anchor="end"))
    return shapes


def _axes(across: str, upwards: str) -> list[Markup]:
    middle = _LEFT + (_WIDTH - _LEFT - _RIGHT) / 2
    return [
        _text(across, middle, _HEIGHT - 7, anchor="middle", class_="axis"),
        _text(upwards, 2, 13, class_="axis"),
    ]


def _text(content: str, x: float, y: float, *, anchor: str | None = None, class_: str | None = None) -> Markup:
    return tag("text", content, x=x, y=y, text_anchor=anchor, class_=class_)


def _drawing(shapes: Sequence[Markup], height: float, title: str) -> Markup:
    return tag("svg", tag("title", title), shapes, viewBox=f"0 0 {_WIDTH:.0f} {height:.0f}", role="img", class_="plot")
