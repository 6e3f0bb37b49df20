"""A check as JUnit XML, as Jenkins, GitLab and GitHub's test reporters read it: one test case per suite of a method."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from nsbench.regression.entry import seeded
from nsbench.regression.records import BaselineCheck, SuiteCheck, Verdict
from nsbench.regression.words import explanation, headline, notes, on_average

# XML 1.0, production 2: what no XML file holds, not even escaped
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\N{REPLACEMENT CHARACTER}\U00010000-\U0010ffff]")


def to_junit(check: BaselineCheck) -> bytes:
    """UTF-8. A regression is a failure, what cannot be compared an error; a moved method fails where it is strict."""
    suites = ET.Element("testsuites", name="nsbench check")
    for method in dict.fromkeys(one.method for one in check.suites):
        mine = [one for one in check.suites if one.method == method]
        cases = [_case(c) for c in mine]
        cases += [
            _plain_case(method, "average", on_average(one) if one.verdict is Verdict.REGRESSED else "")
            for one in check.methods
            if one.method == method
        ]
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
    content: bytes = ET.tostring(suites, encoding="utf-8")
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + content + b"\n"


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


def _case(one: SuiteCheck) -> ET.Element:
    seconds = (one.after.run_facts.seconds if one.after else None) or 0.0
    case = ET.Element(
        "testcase",
        classname=_clean(f"nsbench.{one.method}"),
        name=_clean(seeded(one.suite, one.seed)),
        time=f"{seconds:.2f}",
    )
    what = {Verdict.REGRESSED: "failure", Verdict.INCOMPARABLE: "error"}.get(one.verdict, "system-out")
    text = explanation(one)
    if what == "system-out":
        ET.SubElement(case, what).text = _clean(text)
    else:
        problem = ET.SubElement(case, what, message=_clean(text), type=one.verdict.value)
        problem.text = _clean("\n".join([text, "lost: " + ", ".join(one.lost.tolist())]))
    return case


def _plain_case(method: str, name: str, failure: str) -> ET.Element:
    case = ET.Element("testcase", classname=_clean(f"nsbench.{method}"), name=name, time="0.00")
    if failure:
        ET.SubElement(case, "failure", message=_clean(failure), type=name).text = _clean(failure)
    return case


def _clean(text: str) -> str:
    """Without characters that XML 1.0 cannot hold, escaped or not."""
    return NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
