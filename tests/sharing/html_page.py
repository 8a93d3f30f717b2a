"""A parsed page, for tests: its tables by caption, its pictures, its texts."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "input", "br"}


class HtmlPage(HTMLParser):
    """tables: by caption, the rows of their cells, the header first. attributes: of every element, by tag.
    texts: of every element that has an id. scripts: their contents. text: all of the page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, str] = {}
        self.scripts: list[str] = []
        self.text = ""
        self._stack: list[tuple[str, str | None]] = []
        self._rows: list[list[str]] = []
        self._caption = ""
        self.feed(source)
        self.close()
        assert not self._stack, self._stack

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.attributes.append((tag, found))
        if tag not in _VOID:
            self._stack.append((tag, found.get("id")))
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._stack.pop()[0] == tag, tag
        if tag == "table":
            assert self._caption not in self.tables
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        tags = [tag for tag, _ in self._stack]
        if "script" in tags:
            self.scripts[-1] += data
            return
        if "style" not in tags:
            self.text += data
        for _, name in self._stack:
            if name is not None:
                self.texts[name] = self.texts.get(name, "") + data
        if "caption" in tags:
            self._caption += data
        elif "td" in tags or "th" in tags:
            self._rows[-1][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of the elements of a tag."""
        return [found for name, found in self.attributes if name == tag]
