"""Does the audit survive everything that can be wrong with files, within bounds of time and memory, and does it name it all?

    python benchmarks/torture.py --files 10000

The folder is made by ``tests/datasets/torture_folder.py``, which says what is in it, and removed at the end.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fresh_process import VITRAIL, Ended, run_fresh
from vitrail.storage import write_record

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "datasets"))

from torture_folder import Ordeal, make_torture_folder

MIB = 2**20


def listed(report: dict[str, object]) -> dict[str, tuple[str, str]]:
    """Return code and note of the first finding about files (IO...) that names a path, for every path that is named."""
    named: dict[str, tuple[str, str]] = {}
    for finding in report["findings"]:  # type: ignore[attr-defined]
        if finding["code"].startswith("IO") and finding["code"] != "IO105":
            for piece in finding["evidence"]:
                for path in piece["paths"]:
                    file = re.sub(r"(\.dcm|\.nii|\.nii\.gz)#\d+$", r"\1", path)  # a frame stands for its file
                    named.setdefault(file, (finding["code"], piece["note"]))
    return named


def rows(ordeals: Sequence[Ordeal], named: dict[str, tuple[str, str]]) -> list[dict[str, object]]:
    """Return one line per kind: how many files, how many named, as what, and whether that is as it must be."""
    table = []
    for ordeal in ordeals:
        codes = Counter(named[path][0] for path in ordeal.paths if path in named)
        reasons = Counter(named[path][1] for path in ordeal.paths if path in named)
        found = sum(codes.values())
        right = {"listed": found == len(ordeal.paths), "used": found == 0, "either": True}[ordeal.expected]
        table.append(
            {
                "kind": ordeal.kind,
                "files": len(ordeal.paths),
                "expected": ordeal.expected,
                "listed": found,
                "codes": dict(codes),
                "reason": reasons.most_common(1)[0][0] if reasons else "",
                "right": right,
            }
        )
    return table


def print_table(ended: Ended, table: Sequence[dict[str, object]], options: argparse.Namespace) -> None:
    """Print how the process ended and what became of every kind."""
    print(f"{'kind':<42}{'files':>6}{'listed':>8}  {'expected':<9}{'code':<7} reason of most")
    for row in table:
        codes = ",".join(row["codes"])  # type: ignore[arg-type]
        mark = "" if row["right"] else "  <-- WRONG"
        print(
            f"{row['kind']:<42}{row['files']:>6}{row['listed']:>8}  {row['expected']:<9}{codes:<7} {row['reason']}"[:170] + mark
        )
    how = f"stopped: too much {ended.stopped}" if ended.stopped else f"exit code {ended.exit_code}"
    print(
        f"\n{how}; {ended.seconds:.1f} s (bound {options.seconds}); "
        f"peak memory {ended.peak_bytes / MIB:,.0f} MiB, private {ended.private_bytes / MIB:,.0f} MiB (bound {options.memory:,})"
    )
    if ended.exit_code or ended.stopped:
        print("\n".join(ended.errors.strip().splitlines()[-12:]))


def main() -> None:
    """Make the folder, audit it, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000, help="number of files")
    parser.add_argument("--mild", action="store_true", help="small bombs, as in the test")
    parser.add_argument("--seconds", type=int, default=600, help="bound on the time")
    parser.add_argument("--memory", type=int, default=4096, help="bound on private memory in MiB")
    parser.add_argument("--scratch", type=Path, help="folder for what is made [the system's]")
    parser.add_argument("--json", type=Path, default=Path("runs/benchmarks/torture.json"), help="where to write the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.scratch) as name:
        scratch = Path(name)
        started = time.perf_counter()
        ordeals = make_torture_folder(scratch / "images", files=options.files, mild=options.mild)
        print(f"{sum(len(ordeal.paths) for ordeal in ordeals):,} files made in {time.perf_counter() - started:.0f} s", flush=True)
        command = [*VITRAIL, "audit", str(scratch / "images"), "--output", str(scratch / "runs"), "--quiet", "--json"]
        ended = run_fresh(command, seconds=options.seconds, memory=options.memory * MIB)
        report: dict[str, object] = {"findings": []}
        if not ended.stopped and not ended.exit_code:
            report = json.loads(ended.output)
    table = rows(ordeals, listed(report))
    print_table(ended, table, options)
    figures = {
        "files": sum(len(ordeal.paths) for ordeal in ordeals),
        "ended": not ended.stopped and ended.exit_code == 0,
        "stopped": ended.stopped,
        "exit_code": ended.exit_code,
        "seconds": round(ended.seconds, 2),
        "peak_mib": round(ended.peak_bytes / MIB),
        "private_peak_mib": round(ended.private_bytes / MIB),
        "kinds": table,
    }
    write_record(options.json, figures)
    if not figures["ended"] or not all(row["right"] for row in table):
        sys.exit(1)


if __name__ == "__main__":
    main()
