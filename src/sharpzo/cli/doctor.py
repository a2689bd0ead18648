"""``sharpzo doctor``: will it run here, and how fast?"""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from sharpzo.cli import options


def doctor(
    model: options.Model = None,
    threads: options.Threads = None,
    cache: options.Cache = None,
    as_json: options.Json = False,
) -> None:
    """Check versions, engines, processor, threads, memory and cache, and measure a model.

    Takes a few seconds; nothing is written. Exit code 1 if something is broken.
    """
    from sharpzo.cli.screen import Screen
    from sharpzo.diagnosis import diagnose

    findings = diagnose(model, threads, options.feature_cache(cache))
    broken = [finding.name for finding in findings if finding.state == "broken"]
    if as_json:
        print(json.dumps({"broken": broken, "findings": [asdict(one) for one in findings]}))
    else:
        screen = Screen()
        marks = {"ok": "", "advice": "  (see advice)", "broken": "  BROKEN"}
        for finding in findings:
            screen.say(f"{finding.name}{marks[finding.state]}")
            screen.say(f"  {finding.found}")
            screen.say(f"  {finding.advice}")
        screen.say(f"Broken: {', '.join(broken)}" if broken else "Nothing is broken.")
    raise typer.Exit(1 if broken else 0)
