"""What is said while work goes on: rates, lines in a file, events in a log."""

from __future__ import annotations

from nsbench.progress import rate


def test_slow_work_shows_seconds_for_each() -> None:
    assert rate(1234.4, "images") == "1,234 images/s"
    assert rate(3.14, "images") == "3.1 images/s"
    assert rate(0.0294, "images") == "34.0 s/image"
    assert rate(0.5, "steps") == "2.0 s/step"
