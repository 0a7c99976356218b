"""Damage files and read them: `python -m tests.fuzz [COUNT [SEED]] [--kind KIND]`.

Prints each fault, and a table of counts; ends with 1 if there is a fault.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Mapping

from tests.fuzz.attempts import Outcome, attempts, carried_out
from tests.fuzz.judge import FAULTS, GOOD
from tests.fuzz.kinds import KINDS

SHOWN = 3000  # characters of a fault


def main() -> int:
    arguments = _arguments()
    kinds = [kind for name, kind in KINDS.items() if name.startswith(arguments.kind)]
    if not kinds:
        print(f"no kind '{arguments.kind}'; known: {', '.join(KINDS)}")
        return 2
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reasons: Counter[str] = Counter()
    for outcome in carried_out(attempts(kinds, arguments.count, arguments.seed)):
        verdict = outcome.verdict
        counts[outcome.attempt.kind][verdict.outcome] += 1
        if verdict.outcome == "undetectable":
            reasons[verdict.detail] += 1
        if verdict.outcome in FAULTS or arguments.verbose:
            print(_described(outcome), flush=True)
    print(_table(counts))
    print("\nundetectable because")
    for reason, number in reasons.most_common():
        print(f"  {number:6,}  {reason}")
    return int(any(count[fault] for count in counts.values() for fault in FAULTS))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=500, help="damaged files")
    parser.add_argument("seed", nargs="?", type=int, default=0)
    parser.add_argument("--kind", default="", help="only kinds whose names begin so")
    parser.add_argument("-v", "--verbose", action="store_true", help="print every outcome")
    return parser.parse_args()


def _described(outcome: Outcome) -> str:
    verdict, attempt = outcome.verdict, outcome.attempt
    detail = verdict.detail[-SHOWN:]
    return f"{verdict.outcome}: {attempt.kind}, seed {attempt.seed}: {outcome.damaged}\n  {detail}"


def _table(counts: Mapping[str, Counter[str]]) -> str:
    """A table in Markdown: kinds by outcomes, and their sums."""
    names = (*GOOD, *FAULTS)
    lines = [f"| kind | files | {' | '.join(names)} |", "|---|" + "--:|" * (1 + len(names))]
    total: Counter[str] = Counter()
    for kind in [name for name in KINDS if name in counts]:
        total += counts[kind]
        lines.append(_row(kind, counts[kind]))
    return "\n".join([*lines, _row("all", total)])


def _row(kind: str, count: Counter[str]) -> str:
    cells = [f"{count[name]:,}" if count[name] else "" for name in (*GOOD, *FAULTS)]
    return f"| {kind} | {sum(count.values()):,} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
