"""Equations of the site: TeX becomes MathML when the pages are built, so that a browser needs no
script and nothing is fetched. An extension of Python-Markdown for mkdocs.yml; GitHub reads the same
notation: ``$...$`` within a line, and blocks of ``math``.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert, convert_to_element
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor

INLINE = r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])"


def block(source: str, *_: Any, **__: Any) -> str:
    """A fenced block of ``math``, as pymdownx.superfences calls it."""
    return f'<div class="math">{convert(source.strip(), display="block")}</div>'


class Inline(InlineProcessor):
    """``$...$``."""

    def handleMatch(self, m: Any, data: str) -> tuple[Element, int, int]:
        return convert_to_element(m[1]), m.start(0), m.end(0)


class Math(Extension):
    """Before everything but code, so that no underscore is emphasis."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(Inline(INLINE, md), "math", 185)


def makeExtension(**settings: Any) -> Math:
    """What Python-Markdown calls."""
    return Math(**settings)
