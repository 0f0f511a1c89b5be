"""Adds up the test reports of one run and prints the sum as the last line.

Fails when a step failed, a test failed, anything was skipped, nothing ran at all, or the unit tests took too long (in
processor time, so that a busy machine does not decide).
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from pathlib import Path


def main() -> int:
    """Read the reports, print one line per suite, then the sum; the exit code is 0 only if all is well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--unit-budget", type=float, required=True, help="processor seconds for all unit tests")
    parser.add_argument("--failed-steps", default="", help="names of steps that failed, apart by spaces")
    parser.add_argument("reports", type=Path)
    options = parser.parse_args()

    complaints = [f"{step}: see above" for step in options.failed_steps.split() if step in {"lint", "format", "types"}]
    passed = failed = 0
    for report in sorted(options.reports.glob("*.xml")):
        suite = ET.parse(report).getroot().find("testsuite")  # noqa: S314 written by our own pytest a moment ago
        if suite is None:
            complaints.append(f"{report.stem}: the report is empty")
            continue
        total, skipped = int(suite.get("tests", "0")), int(suite.get("skipped", "0"))
        broken = int(suite.get("failures", "0")) + int(suite.get("errors", "0"))
        seconds = float(suite.get("time", "0"))
        passed += total - broken - skipped
        failed += broken
        print(f"{report.stem:10} {total - broken - skipped:5} passed {broken:4} failed   {seconds:6.1f} s")
        if skipped:
            complaints.append(f"{report.stem}: {skipped} tests were skipped, and nothing may be")
        effort = suite.find("properties/property[@name='cpu_seconds']")
        if effort is not None:
            spent, budget = float(effort.get("value", "inf")), options.unit_budget
            print(f"{'':10} of these {spent:.1f} s of processor time; the budget of the unit tests is {budget:.0f} s")
            if spent > budget:
                complaints.append(f"unit: {spent:.1f} s of processor time is over the budget of {budget:.0f} s")
    reported = {report.stem for report in options.reports.glob("*.xml")}
    complaints += [
        f"{step}: broke off before it could report"
        for step in options.failed_steps.split()
        if step not in reported and step not in {"lint", "format", "types"}
    ]
    for complaint in complaints:
        print(f"FAILED {complaint}")
    failed += len(complaints)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or options.failed_steps.strip() else 0


if __name__ == "__main__":
    sys.exit(main())
