"""A check as JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it: one test case per suite of a method."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from nsbench.regression.records import Check, Comparison, Verdict
from nsbench.regression.words import explanation, headline, notes

# XML 1.0, production 2: what no XML file holds, not even escaped
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\N{REPLACEMENT CHARACTER}\U00010000-\U0010ffff]")


def to_junit(check: Check) -> bytes:
    """UTF-8. A regression is a failure, what cannot be compared an error; a moved method fails where it is strict."""
    suites = ET.Element("testsuites", name="nsbench check")
    for method in dict.fromkeys(_method(c) for c in check.comparisons):
        mine = [c for c in check.comparisons if _method(c) == method]
        cases = [_case(c) for c in mine]
        cases += [
            _plain_case(method, "moved", "moved beyond the recorded noise" if m.moved and check.rules.strict else "")
            for m in check.moved
            if m.method == method
        ]
        _suite(suites, method, cases)
    if check.costs:
        _suite(
            suites,
            "cost",
            [
                _plain_case(
                    "cost",
                    cost.what,
                    f"{cost.ratio:.2f} x the baseline's, beyond {cost.limit:g}" if cost.exceeded else "",
                )
                for cost in check.costs
            ],
        )
    last = suites[-1]
    ET.SubElement(last, "system-out").text = _clean("\n".join([*notes(check), headline(check)]))
    for count in ("tests", "failures", "errors"):
        suites.set(count, str(sum(int(suite.get(count, "0")) for suite in suites)))
    ET.indent(suites)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(suites, encoding="utf-8") + b"\n"


def _suite(parent: ET.Element, name: str, cases: list[ET.Element]) -> None:
    seconds = sum(float(case.get("time", "0")) for case in cases)
    suite = ET.SubElement(
        parent,
        "testsuite",
        name=_clean(name),
        tests=str(len(cases)),
        time=f"{seconds:.2f}",
        failures=str(sum(case.find("failure") is not None for case in cases)),
        errors=str(sum(case.find("error") is not None for case in cases)),
        skipped="0",
    )
    suite.extend(cases)


def _case(comparison: Comparison) -> ET.Element:
    after = comparison.after
    seconds = float((after.facts.get("seconds") if after else 0) or 0)
    case = ET.Element(
        "testcase",
        classname=_clean(f"nsbench.{_method(comparison)}"),
        name=_clean(comparison.key.removeprefix(f"{_method(comparison)} x ")),
        time=f"{seconds:.2f}",
    )
    what = {Verdict.REGRESSED: "failure", Verdict.INCOMPARABLE: "error"}.get(comparison.verdict, "system-out")
    text = explanation(comparison)
    if what == "system-out":
        ET.SubElement(case, what).text = _clean(text)
    else:
        found = ET.SubElement(case, what, message=_clean(text), type=comparison.verdict.value)
        found.text = _clean("\n".join([text, "lost: " + ", ".join(comparison.lost.tolist())]))
    return case


def _plain_case(method: str, name: str, failure: str) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(f"nsbench.{method}"), name=name, time="0.00")
    if failure:
        ET.SubElement(case, "failure", message=_clean(failure), type=name).text = _clean(failure)
    return case


def _method(comparison: Comparison) -> str:
    return comparison.before.method if comparison.before else comparison.key.split(" x ")[0]


def _clean(text: str) -> str:
    """Without characters that XML 1.0 cannot hold, escaped or not."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
