"""Writes HTML and SVG in which no text can be anything but text."""

import re
from collections.abc import Iterable
from html import escape
from typing import Final

__all__ = ["Content", "Markup", "tag", "text"]

# What no document may have: control characters, halves of surrogate pairs, and two code points that are none.
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is HTML or SVG already. Only `tag` and `text` make it."""

    __slots__ = ()


Content = str | Iterable[str]


def text(content: str) -> Markup:
    """Text as it is shown; whatever it has of markup is shown as well."""
    return Markup(escape(_FORBIDDEN.sub("\ufffd", content)))


def tag(name: str, /, *contents: Content | None, **attributes: str | float | bool | None) -> Markup:
    """An element.

    Args:
        name: Of the element.
        contents: `Markup` is put in as it is, any other text is escaped, `None` is nothing.
        attributes: An underscore at the end of a name is dropped, others become hyphens; `None` leaves one out.
    """
    opening = name + "".join(
        f' {_attribute(key)}="{text(_shown(value))}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    inner = "".join(_flat(contents))
    return Markup(f"<{opening}>{inner}</{name}>" if inner or name not in _EMPTY else f"<{opening}/>")


# Elements of HTML that have no end, and shapes of SVG, which rarely have contents.
_EMPTY: Final = frozenset({"meta", "br", "rect", "line", "path", "circle", "polyline"})


def _flat(contents: Iterable[Content | None]) -> Iterable[str]:
    for content in contents:
        if isinstance(content, Markup):
            yield content
        elif isinstance(content, str):
            yield text(content)
        elif content is not None:
            yield from _flat(content)


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")


def _shown(value: str | float | bool) -> str:
    if value is True:
        return ""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
