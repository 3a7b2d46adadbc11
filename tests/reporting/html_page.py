"""Reads a page back: its elements, its text, what it would load, for the tests of the pages."""

from __future__ import annotations

import itertools
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr", "path", "use"}
LOADING = ("src", "href", "srcset", "data", "poster", "action", "formaction", "background", "ping", "xlink:href", "cite")


class Page(HTMLParser):
    """Collects the elements, the text, and the elements left open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def assert_loads_nothing(html: str, page: Page) -> None:
    """The page needs nothing from outside, runs nothing, and forbids the browser to load anything."""
    for tag, attributes in page.elements:
        assert tag not in {"script", "iframe", "object", "embed", "base", "audio", "video", "source", "form"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in LOADING:
            address = attributes.get(name, "#")
            assert address.startswith(("#", "data:image/", "data:,")), (tag, name, address)
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "@font-face" not in style
    assert not re.findall(r"url\((?!#)", html)
    assert all(address == "http://www.w3.org/2000/svg" for address in re.findall(r"https?://[^\"'\s<)]+", html))
    policy = next(meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert "http" not in policy


def assert_well_formed(page: Page) -> None:
    """Elements are closed in order, ids are unique, links and labels lead somewhere, headings go down one level at a time."""
    assert page.mismatched == []
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [link["href"][1:] for link in page.all("a") + page.all("use")]
    assert targets
    assert set(targets) <= set(ids)
    labelled = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert labelled
    assert set(labelled) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def assert_can_be_read_aloud(page: Page) -> None:
    """Pictures, tables and figures have words."""
    assert page.all("img")
    assert all(image.get("alt", "").strip() for image in page.all("img"))
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.all("svg"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(head.get("scope") in {"col", "row", "colgroup", "rowgroup"} for head in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
