"""The HTML page: tables, charts, cards, pictures."""
