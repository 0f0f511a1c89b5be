"""The docs say what the source says, and every page can be found."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from scripts.reference import PAGES, REFERENCE
from tests.meta.source import ROOT, tracked

DOCS = ROOT / "docs"
PAGES_BY_HAND = [path for path in tracked() if path.suffix == ".md" and "node_modules" not in path.parts]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def _links(page: Path) -> list[str]:
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return [link for link in _LINK.findall(prose) if "://" not in link and not link.startswith("mailto:")]


def _anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", _FENCE.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_generated_page_says_what_the_source_says(name: str) -> None:
    """A page made from the source is as scripts/docs would write it now."""
    written = (REFERENCE / name).read_text(encoding="utf-8")

    assert written == PAGES[name](), f"docs/reference/{name} is behind: run scripts/docs"


def test_every_page_has_one_title() -> None:
    """Each page begins with its only first-level heading."""
    wrong = []
    for page in PAGES_BY_HAND:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        if not text.startswith("# ") or len(re.findall(r"^# ", text, re.MULTILINE)) != 1:
            wrong.append(str(page.relative_to(ROOT)))

    assert not wrong


def test_every_page_is_linked_from_the_index() -> None:
    """docs/README.md is the table of contents; no page is left out."""
    linked = {(DOCS / unquote(link.split("#")[0])).resolve() for link in _links(DOCS / "README.md")}
    pages = {page for page in PAGES_BY_HAND if page.is_relative_to(DOCS) and page != DOCS / "README.md"}

    assert not sorted(str(page.relative_to(ROOT)) for page in pages - linked)


def test_every_link_between_pages_leads_somewhere() -> None:
    """Relative links name files that are in the repository, and headings that are in those files."""
    broken = []
    for page in PAGES_BY_HAND:
        for link in _links(page):
            name, _, anchor = unquote(link).partition("#")
            goal = (page.parent / name).resolve() if name else page
            if not goal.exists() or (anchor and goal.suffix == ".md" and anchor not in _anchors(goal)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")

    assert not broken, "\n".join(broken)
