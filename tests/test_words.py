"""Words, pages: plain words everywhere, and pages that name files that exist."""

import re
from collections.abc import Iterator
from pathlib import Path

from test_house import LAYERS, SOURCE

ROOT = Path(__file__).parents[1]
UNIT = (
    "batch|block|byte|call|candidate|cell|channel|chunk|class|core|direction|draw|file|forward|"
    "generation|image|layer|line|method|number|photo|picture|pixel|row|run|second|seed|split|step|"
    "token|weight"
)
COUNTED = (
    "bars|batch|bits|bytes|candidates?|directions|forwards?|images|[kMG]i?B|losses|ms|"
    "milliseconds|numbers|objects?|once|pairs|photos?|pictures?|points|rows|samples|seconds|shots|"
    r"tangents|tokens|vectors?|views?|\d+"
)
# What CONTRIBUTING.md asks for, for the words that came back most often.
WORDS = {
    rf"\b({COUNTED})\s+an?\s+({UNIT})\b(?!\s(was|has|had))": "per class, per step, …",
    r"\b(is|are|was|were) (no|not an?) numbers?\b|\bnot numbers\b": "non-finite",
    r"leaves? the numbers": "overflows",
    r"\byardsticks?\b|\brivals?\b": "baseline",
    r"(?<!\")\bjudg\w+": "evaluate",
    r"\bheard\b|\bhears?\b": "is called with",
    r"\bchances\b": "probabilities",
    r"\bother\s+draws\b": "held-out development photos",
    r"\btails?\b": "last block",
    r"\bnobody\b(?!/)|\bsomebody\b|\beverybody\b": "say what happens, without an actor",
    r"what becomes of": "what happens to",
}


def written() -> Iterator[tuple[str, str]]:
    """Everything that people read here: name and text; of CONTRIBUTING.md without its word list."""
    for folder in ("src", "docs", "tools", "experiments", "benchmarks", "tests"):
        for path in sorted((ROOT / folder).rglob("*")):
            read = path.suffix in (".py", ".md", ".html", ".toml") and "out" not in path.parts
            if read and path != Path(__file__):
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")
    for path in ROOT.glob("*.md"):
        lines = path.read_text("utf-8").splitlines()
        yield path.name, "\n".join(line for line in lines if not line.startswith("|"))


def test_plain_words():
    """One loop over all pages and modules; CONTRIBUTING.md has the list and the reasons."""
    found = [
        f"{name}:{text.count(chr(10), 0, hit.start()) + 1}: {hit.group()!r}; write: {plain}"
        for name, text in written()
        for pattern, plain in WORDS.items()
        for hit in re.finditer(pattern, text, re.IGNORECASE)
    ]
    assert not found, "\n".join(found)


def pages() -> Iterator[tuple[str, str]]:
    """The pages of the documentation."""
    for path in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]):
        yield path.name, path.read_text("utf-8")


def test_prose_of_the_pages_is_at_most_100_columns_wide():
    found = []
    for name, text in pages():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        prose = re.sub(r"^(?:    |\||#|\[?!\[).*$", "", prose, flags=re.MULTILINE)
        found += [f"{name}: {line}" for line in prose.splitlines() if len(line) > 100]
    assert not found, "\n".join(found)


def test_the_files_that_pages_name_exist():
    """Links, paths in backquotes, and scripts of commands."""
    found = []
    for name, text in pages():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        paths = re.findall(r"\]\(((?!http)[^)#]+)", prose)
        paths += re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|md|json|toml))`", prose)
        paths += re.findall(r"python ((?:tools|benchmarks|experiments)/\S+\.py)", text)
        places = (ROOT, ROOT / "docs", SOURCE, SOURCE.parent)
        missing = [at for at in paths if not any((place / at).exists() for place in places)]
        found += [f"{name} names {at}, which is not there" for at in missing]
    assert not found, "\n".join(found)


def test_the_page_of_the_layers_has_those_of_the_house():
    page = (ROOT / "docs" / "how-it-is-built.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", page.split("| layer |")[1].split("```")[0], re.MULTILINE)
    assert [set(re.findall(r"`(\w+)`", row)) for row in rows] == LAYERS[1:]  # without __main__
