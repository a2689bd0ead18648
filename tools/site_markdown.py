"""What the site reads beyond Markdown, as an extension of Python-Markdown for mkdocs.yml.

Equations: TeX becomes MathML when the pages are built, so that a browser needs no script and
nothing is fetched. GitHub reads the same notation: ``$...$`` within a line, and blocks of ``math``.
Examples of docstrings: lines from ``>>>`` to an empty line are a block of code, not quotations.
"""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert, convert_to_element
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

INLINE = r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])"


def block(source: str, *_: Any, **__: Any) -> str:
    """A fenced block of ``math``, as pymdownx.superfences calls it."""
    return f'<div class="math">{convert(source.strip(), display="block")}</div>'


class Inline(InlineProcessor):
    """``$...$``."""

    def handleMatch(self, m: Any, data: str) -> tuple[Element, int, int]:
        return convert_to_element(m[1]), m.start(0), m.end(0)


class Examples(Preprocessor):
    """``>>>`` lines and what they print."""

    def run(self, lines: list[str]) -> list[str]:
        """Fence them."""
        found: list[str] = []
        within = False
        for line in [*lines, ""]:
            if line.startswith(">>> ") and not within:
                found.append("```pycon")
                within = True
            elif within and not line.strip():
                found.append("```")
                within = False
            found.append(line)
        return found


class Site(Extension):
    """Equations before everything but code, so that no underscore is emphasis."""

    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(Inline(INLINE, md), "math", 185)
        md.preprocessors.register(Examples(md), "examples", 28)  # before blocks are read


def makeExtension(**settings: Any) -> Site:
    """What Python-Markdown calls."""
    return Site(**settings)
