"""Links and mentions of files in the documentation lead somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.docs.pages import CARDS, PAGES, ROOT, code_spans, prose

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
MENTION = re.compile(r"\bdocs/[\w./-]*\.(?:md|py|png)\b")
FOLDERS = ("volflow", "tests", "benchmarks", "pipelines", "deploy", "examples", "docs")


def anchors(page: Path) -> set[str]:
    """The anchors that a code host makes of the headings of a page."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(prose(page)):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", target):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_are_detected(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A title\n[a](#a-title) [b](#b) [c](none.md) [d](page.md#a-title)\n")
    assert broken_links(page) == ["#b", "none.md"]


def tracked_files() -> list[Path]:
    """Text files of the repository, or of an unpacked archive of it."""
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        return [path for name in FOLDERS for path in (ROOT / name).rglob("*") if path.is_file()]
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_mentions_of_pages_exist() -> None:
    text = {".md", ".py", ".yaml", ".toml", ".sh", ".sbatch", ".html", ".txt", ""}
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in tracked_files()
        if path.suffix in text and path != Path(__file__)
        for name in MENTION.findall(path.read_text(encoding="utf-8"))
        if not (ROOT / name).is_file()
    }
    assert missing == set()


@pytest.mark.parametrize("page", PAGES + CARDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_between_backticks_exist(page: Path) -> None:
    path = re.compile(rf"(?:{'|'.join(FOLDERS)})/[\w./*-]+")
    missing = [
        f"line {line}: {span}"
        for line, span in code_spans(page)
        if path.fullmatch(span) and "..." not in span and not list(ROOT.glob(span.rstrip("/")))
    ]
    assert missing == []


def test_every_page_is_reachable_from_the_index() -> None:
    reached, waiting = set(), [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md" or not page.is_file():
            continue
        reached.add(page)
        targets = (target.partition("#")[0] for target in LINK.findall(prose(page)))
        waiting += [(page.parent / target).resolve() for target in targets if target]
    assert set((ROOT / "docs").rglob("*.md")) - reached == set()
