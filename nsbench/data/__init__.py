"""Data sources: what they promise, and the readers of ImageNet trees. It knows no model and no attack."""

from nsbench.data.source import DataSource, Split, SurrogateName

__all__ = ["DataSource", "Split", "SurrogateName"]
