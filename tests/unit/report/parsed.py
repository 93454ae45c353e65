"""A page taken apart, for tests of what is on it."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """What a page holds; fails where an element is left open or closed twice."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self.source = page.decode("utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"<{tag}/> closes itself in SVG only"
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def words(self) -> str:
        """The text with every run of spaces as one."""
        return " ".join(self.text.split())

    def of_class(self, name: str) -> int:
        return sum(name in (attributes.get("class") or "").split() for _, attributes in self.seen)

    def count(self, tag: str) -> int:
        return sum(seen == tag for seen, _ in self.seen)

    def named(self, start: str) -> int:
        return sum((attributes.get("id") or "").startswith(start) for _, attributes in self.seen)

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] or "" for _, attributes in self.seen if attribute in attributes]

    def table_below(self, label: str) -> list[list[str]]:
        """The rows of the table in the region of that name."""
        start = self.source.index(f'aria-label="{label}"')
        table = self.source[start : self.source.index("</table>", start)]
        part = Page(table[table.index("<table") :].encode() + b"</table>")
        return [[" ".join(cell.split()) for cell in row] for row in part.rows]
