"""The docs say what the source says, and every page can be found."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from urllib.parse import unquote

import pytest

from intertie.controlplane import config, document, entries, limit_entries, member_entries, rule_entries
from intertie.controlplane.shapes import Entry
from scripts.reference import PAGES, REFERENCE, commands
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


SECTIONS: dict[str, type[Entry]] = {
    "Sections": entries.Document,
    "upstreams": entries.UpstreamEntry,
    "Secrets": entries.SecretEntry,
    "Models": entries.ModelEntry,
    "Prices": entries.PriceEntry,
    "Timeouts": entries.TimeoutsEntry,
    "routes": entries.RouteEntry,
    "Cache": entries.CacheEntry,
    "Similar questions": entries.SimilarEntry,
    "Hedge": entries.HedgeEntry,
    "Shadow": entries.ShadowEntry,
    "Shadow targets": entries.ShadowTargetEntry,
    "Targets": entries.TargetEntry,
    "rules": rule_entries.RuleEntry,
    "Conditions": rule_entries.WhenEntry,
    "Demands": rule_entries.WishEntry,
    "organisation": limit_entries.OrganisationEntry,
    "Models by name": limit_entries.ModelLimitsEntry,
    "alerts": entries.AlertsEntry,
    "projects": entries.ProjectEntry,
    "Keys": entries.KeyEntry,
    "members": member_entries.MemberEntry,
}
"""Heading of the configuration page -> the shape described under it."""


def _rows(section: str) -> dict[str, str]:
    """Key -> default, of the table under a heading of the configuration page."""
    text = (REFERENCE / "configuration.md").read_text(encoding="utf-8")
    body = re.split(rf"^## {section}$", text, flags=re.MULTILINE)[1].split("\n## ")[0]
    return dict(re.findall(r"^\| `(\w+)` \| ([^|]*?) *\|", body, re.MULTILINE))


def test_every_shape_of_the_configuration_has_its_section() -> None:
    """A new kind of entry needs a heading."""
    named = {**vars(entries), **vars(rule_entries), **vars(member_entries)}.values()
    shapes = {kind for kind in named if isinstance(kind, type) and issubclass(kind, Entry)}
    asked = {rule_entries.DraftEntry, rule_entries.QuestionEntry, rule_entries.MoveEntry}
    asked |= {member_entries.MemberChangeEntry}

    assert shapes - {Entry, entries.HeaderEntry, limit_entries.Limited} - asked == set(SECTIONS.values())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_configuration_key_is_described_with_its_default(section: str) -> None:
    """The table under a heading names exactly the keys of its shape, and the defaults that they have."""
    fields = SECTIONS[section].model_fields
    rows = _rows(section)
    assert list(fields) == list(rows)

    for name, field in fields.items():
        if field.is_required():
            assert rows[name] == "required"
        elif isinstance(field.default, bool | int | float | str):
            value = field.default.value if isinstance(field.default, Enum) else field.default
            shown = (
                str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else value
            )
            assert rows[name] == f"`{shown}`"


def _examples() -> Iterator[tuple[str, str]]:
    fence = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for page in PAGES_BY_HAND:
        for number, text in enumerate(fence.findall(page.read_text(encoding="utf-8"))):
            if set(document.read(text)) & {"upstreams", "routes", "projects"}:
                yield f"{page.relative_to(ROOT)} {number}", text


@pytest.mark.parametrize("text", [pytest.param(text, id=place) for place, text in _examples()])
def test_every_example_of_a_configuration_is_valid(text: str) -> None:
    """What a reader copies from the docs is accepted."""
    read = config.parse(text)

    assert read.upstreams or read.routes or read.projects


def _told() -> Iterator[tuple[str, list[str]]]:
    """(page, words) of every `intertie …` that the docs tell people to type; generated pages aside."""
    for page in PAGES_BY_HAND:
        if page.parent == REFERENCE and page.name in PAGES:
            continue
        text = re.sub(r"\\\n\s*", " ", page.read_text(encoding="utf-8"))
        for line in re.findall(r"(?:^|[`(/])intertie ([a-z][^`\n]*)", text, re.MULTILINE):
            yield str(page.relative_to(ROOT)), re.split(r"\s#|\s\s|[|)]", line)[0].split()


def test_every_command_that_the_docs_tell_people_to_type_exists() -> None:
    """Command, sub-command and options are real."""
    known = {
        path: {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
        for path, command in commands()
    }
    wrong = []
    for page, words in _told():
        path = next((path for path in known if path == tuple(words[: len(path)])), None)
        options = {word.split("=")[0] for word in words if word.startswith("-")}
        if path is None or options - known[path]:
            wrong.append(f"{page}: intertie {' '.join(words)}")

    assert not wrong, "\n".join(wrong)
