"""What surrounds a page that is part of a site."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Frame:
    """Titles, the way to the site's other pages, and what programs show that link to this one."""

    site: str  # its title
    title: str  # of the page
    description: str  # one or two sentences
    up: str = ""  # from the page's folder to that of the site: "" or "../"
    address: str = ""  # of the page, absolute; "" where the site's is not known
    picture: str = "social.png"  # absolute where the site's address is known
    data: str = ""  # of a board: its figures as CSV
