"""Pages of the committed reports, read by Python's own parser."""

import csv
from html.parser import HTMLParser
from pathlib import Path

REPORTS = Path(__file__).parents[2] / "reports"
PAGES = sorted(REPORTS.rglob("index.html"))
VOID = {"meta", "link", "br", "img", "input"}


class Page(HTMLParser):
    """Elements of a page in order; every one is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.tables, self.cell = [], [], [], None
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.tables[-1][-1][-1] += data

    def all(self, *tags):
        return [attrs for tag, attrs in self.elements if tag in tags]


def cells_of(home):
    with (home / "cells.csv").open(encoding="utf-8", newline="") as file:
        return [line for line in csv.DictReader(file) if line["run_id"] and line.get("role", "cell") == "cell"]


def level_table(home):
    """The heads of the page's first table and its rows by their levels."""
    rows = Page(home / "index.html").tables[0]
    count = sum(name.startswith("factor.") for name in cells_of(home)[0])
    return rows[0], {tuple(row[:count]): row[count:] for row in rows[1:]}
