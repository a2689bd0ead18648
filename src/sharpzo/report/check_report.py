"""The page of what was found in photos: their pictures, side by side."""

from __future__ import annotations

from typing import Any

from sharpzo.audit import Audit
from sharpzo.report.evidence import thumbnail
from sharpzo.report.page import render

MOST = 60  # pictures of a kind on a page


def report_audit(audit: Audit, source: str) -> str:
    """Return the page; ``source`` says in a few words where the photos come from."""
    names, labels = audit.photos.class_names, audit.photos.labels

    def shown(row: int) -> dict[str, Any]:
        photo = audit.photos.photos[row]
        return {
            "picture": thumbnail(photo.decode()),
            "photo": photo.name,
            "label": names[labels[row]],
            "split": audit.splits[row],
        }

    return render(
        "check.html",
        {
            "source": source,
            "photos": len(audit.photos),
            "classes": len(names),
            "audit": audit,
            "suspects": [
                shown(one.row) | {"likely": names[one.likely], "margin": one.margin}
                for one in audit.suspects[:MOST]
            ],
            "copies": [
                (one.exact, [shown(row) for row in one.rows[:6]], len(one.rows))
                for one in audit.copies[:MOST]
            ],
            "mixed": [
                (names[one.one], names[one.other], one.many, int((labels == one.one).sum()))
                for one in audit.mixed
            ],
        },
    )
