"""What programs read of a site: the feed of its changes (Atom), its list of pages (sitemap) and robots.txt."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from nsbench.errors import without_controls
from nsbench.report.site.changes import Change

ATOM, SITEMAP = "http://www.w3.org/2005/Atom", "http://www.sitemaps.org/schemas/sitemap/0.9"
ENTRIES = 100  # of the feed, the newest
NOT_OF_XML = re.compile("[\ufffe\uffff]")


def feed(changes: Sequence[Change], title: str, address: str, pages: Mapping[str, str]) -> bytes:
    """`pages`: of each method the path of its page. Where the site has no address, links are relative to the feed."""
    site = address or title
    root = ElementTree.Element("feed", xmlns=ATOM)
    _add(root, "id", uuid.uuid5(uuid.NAMESPACE_URL, f"nsbench\n{without_controls(site)}").urn)
    _add(root, "title", f"{title}: changes")
    _add(root, "updated", changes[0].moment if changes else "1970-01-01T00:00:00Z")
    _add(_add(root, "author"), "name", title)
    _add(root, "generator", "nsbench")
    _add(root, "link", rel="alternate", type="text/html", href=f"{address}index.html")
    if address:
        _add(root, "link", rel="self", type="application/atom+xml", href=f"{address}feed.xml")
    for change in changes[:ENTRIES]:
        entry = _add(root, "entry")
        _add(entry, "id", change.identity(site))
        _add(entry, "title", f"{change.board.name}: {change.title}")
        _add(entry, "updated", change.moment)
        _add(entry, "link", rel="alternate", type="text/html", href=f"{address}{pages[change.method]}")
        _add(entry, "content", "\n".join(change.lines), type="text")
    return _bytes(root)


def sitemap(pages: Mapping[str, str], address: str) -> bytes:
    """`pages`: path and the day of the newest result on it, "" where no result states one."""
    root = ElementTree.Element("urlset", xmlns=SITEMAP)
    for path, day in pages.items():
        url = ElementTree.SubElement(root, "url")
        ElementTree.SubElement(url, "loc").text = f"{address}{path.removesuffix('index.html')}"
        if day:
            ElementTree.SubElement(url, "lastmod").text = day
    return _bytes(root)


def robots(address: str) -> bytes:
    where = f"Sitemap: {address}sitemap.xml\n" if address else ""
    return f"User-agent: *\nAllow: /\n{where}".encode()


def _add(parent: ElementTree.Element, name: str, text: str = "", **attributes: str) -> ElementTree.Element:
    found = ElementTree.SubElement(parent, name, attributes)
    found.text = NOT_OF_XML.sub("", without_controls(text)) or None
    return found


def _bytes(root: ElementTree.Element) -> bytes:
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"
