"""Quote names of files and classes in messages: whole, without control characters."""

from __future__ import annotations

import codecs
import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Sequence

# Marks that reorder what stands beside them: a name could pass for another one.
_REORDERING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # control characters, halves of characters, line ends
_ASCII = {"±": "+-", "–": "-", "—": "-", "…": "...", "×": "x", "·": ".", "’": "'"}


def printable(text: str) -> str:
    r"""Return ``text`` on one line, with escapes for what a terminal would act on or cannot show.

    Bytes of a file name that are no UTF-8 become ``\xNN``, as do control characters.

    >>> print(printable("caf\udce9\n\x1b[31m [bold]"))
    caf\xe9\x0a\x1b[31m [bold]
    """
    if text.isprintable():
        return text
    return "".join(_escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries a byte that it could not decode
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(character) in _ESCAPED or character in _REORDERING:
        return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    return character


def utf8(text: str) -> bytes:
    r"""Encode a text for a file; bytes of a name that are no UTF-8 become escapes as JSON has them.

    >>> utf8('{"path": "caf\udce9"}')
    b'{"path": "caf\\udce9"}'
    """
    return text.encode("utf-8", "backslashreplace")


def quoted(argument: str | os.PathLike[str]) -> str:
    r"""Return an argument as a POSIX shell has to be given it.

    >>> print(quoted("my run"), quoted("-x"), quoted("caf\udce9"))
    'my run' ./-x $'caf\xe9'
    """
    text = os.fspath(argument)
    if text.startswith("-"):
        text = os.path.join(os.curdir, text)
    if printable(text) == text:
        return shlex.quote(text)
    plain = (
        chr(byte) if 0x20 <= byte < 0x7F and chr(byte) not in "'\\" else f"\\x{byte:02x}"
        for byte in os.fsencode(text)
    )
    return f"$'{''.join(plain)}'"


def some(names: Sequence[str], limit: int = 5) -> str:
    """Return the first few names and how many more there are.

    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def meant(name: object, known: Iterable[str]) -> str:
    """Return which known name an unknown one may stand for, to be put behind it; '' if none is like
    it. The last part of a name such as zo.keep or paper/eurosat is enough.

    >>> meant("ladder+token", ["ladder", "ladder+tokens"]), meant("keep", ["zo.keep"])
    (" (did you mean 'ladder+tokens'?)", " (did you mean 'zo.keep'?)")
    >>> meant("wandb", ["mlflow"])
    ''
    """
    from difflib import get_close_matches  # of errors alone

    names = list(known)
    found = get_close_matches(str(name), names, 1)
    found += [one for one in names if re.split("[./]", one)[-1] == name]
    return f" (did you mean {found[0]!r}?)" if found else ""


def _legible(error: UnicodeError) -> tuple[str | bytes, int]:
    """What stands in for characters that a code page lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lost = error.object[error.start : error.end]
    kept = "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lost)
    return kept, error.end


LEGIBLE = "sharpzo.legible"  # an error handler for streams, see `codecs.register_error`
codecs.register_error(LEGIBLE, _legible)
