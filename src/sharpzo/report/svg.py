"""SVG by hand: elements, numbers and round axis ticks. Colours are the page's (``style.css``)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr


def number(value: float) -> str:
    """A coordinate with at most two decimals; a figure with NaN or inf in it is a mistake.

    >>> number(3.0), number(0.126)
    ('3', '0.13')
    """
    if not math.isfinite(value):
        raise ValueError(f"a coordinate is {value}; figures are drawn from finite numbers only")
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def element(name: str, content: str = "", /, **attributes: str | float) -> str:
    """An element; ``content`` is markup, attribute names have ``_`` for ``-``.

    >>> element("rect", class_="a", stroke_width=2.5)
    '<rect class="a" stroke-width="2.5"/>'
    """
    words = []
    for key, value in attributes.items():
        text = value if isinstance(value, str) else number(value)
        words.append(f" {key.rstrip('_').replace('_', '-')}={quoteattr(text)}")
    opened = f"<{name}{''.join(words)}"
    return f"{opened}>{content}</{name}>" if content else f"{opened}/>"


def text(x: float, y: float, words: str, *, hint: str = "", **attributes: str | float) -> str:
    """Words at a place; ``hint`` is what a pointer resting on them shows."""
    content = escape(words)
    if hint:
        content += element("title", escape(hint))
    return element("text", content, x=x, y=y, **attributes)


def polyline(points: Iterable[tuple[float, float]], **attributes: str | float) -> str:
    """A line through points."""
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polyline", points=path, **attributes)


def polygon(points: Iterable[tuple[float, float]], **attributes: str | float) -> str:
    """A filled outline."""
    path = " ".join(f"{number(x)},{number(y)}" for x, y in points)
    return element("polygon", points=path, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: str | float) -> str:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def figure(width: float, height: float, title: str, marks: Iterable[str], kind: str = "") -> str:
    """A whole drawing; ``title`` is its text for those who do not see it."""
    return element(
        "svg",
        element("title", escape(title)) + "".join(marks),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {number(width)} {number(height)}",
        width=width,
        height=height,
        role="img",
        aria_label=title,
        class_=f"figure {kind}".strip(),
    )


def ticks(low: float, high: float, many: int = 5) -> list[float]:
    """About ``many`` round numbers within [low, high].

    >>> ticks(0, 1, 5)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    >>> ticks(0, 8000, 4)
    [0.0, 2000.0, 4000.0, 6000.0, 8000.0]
    """
    if not high > low:
        return [low]
    rough = (high - low) / many
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def short(words: str, limit: int) -> str:
    """Words cut to ``limit`` letters.

    >>> short("a very long class name", 10)
    'a very lo…'
    """
    return words if len(words) <= limit else words[: limit - 1].rstrip() + "…"


def percent(fraction: float | None, digits: int = 1) -> str:
    """0.8123 -> '81.2 %' (with a space that does not break); None -> 'n/a'."""
    return "n/a" if fraction is None else f"{100 * fraction:.{digits}f}\u00a0%"
