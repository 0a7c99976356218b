"""The outcome of a damage: refused, healed, right, undetectable; or a fault."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.damage import Damage
from tests.fuzz.kind import Content, Kind, Refusals, Traceback, differences
from volflow.errors import VolflowError

GOOD = ("refused", "healed", "right", "undetectable")
FAULTS = ("unnamed", "traceback", "silently wrong", "crash", "hang")
"""`unnamed`: refused with a message that does not name the file."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one damage, and what shows it."""

    outcome: str
    detail: str = ""


def judge(kind: Kind, folder: Path, damage: Damage, expected: Content) -> Verdict:
    """Read damaged files, and compare what is read with the content of the intact ones."""
    try:
        actual = kind.read(folder, expected)
    except VolflowError as error:
        messages = error.messages if isinstance(error, Refusals) else (str(error),)
        unnamed = [each for each in messages if not _is_named(kind, damage, each)]
        reason = kind.reason(damage, ()) if unnamed else ""
        if reason:  # what cannot be known may have consequences that can
            return Verdict("undetectable", reason)
        return Verdict("unnamed" if unnamed else "refused", (unnamed or messages)[0])
    except Traceback as error:
        return Verdict("traceback", str(error))
    except Exception as error:
        return Verdict("traceback", "".join(traceback.format_exception(error)))
    wrong = differences(expected, actual)
    if not wrong:
        path = folder / damage.file
        left = path.read_bytes() if path.exists() else b""
        is_as_damaged = left == damage.after and path.exists() == (damage.how != "deleted")
        return Verdict("right" if is_as_damaged else "healed")
    new = set(actual.get("warnings", ())) - set(expected.get("warnings", ()))
    reason = kind.reason(damage, tuple(sorted(new)))
    what = ", ".join(wrong)
    if reason:
        return Verdict("undetectable", reason)
    shown = "; ".join(
        f"{name}: {_short(expected, name)} -> {_short(actual, name)}" for name in wrong
    )
    return Verdict("silently wrong", f"{what} differ: {shown}")


def _is_named(kind: Kind, damage: Damage, message: str) -> bool:
    """Whether a message names the damaged file, or the folder of a volume that has it."""
    if damage.name in message:
        return True
    above = [str(parent) for parent in Path(damage.file).parents]
    return kind.by_folder and any(each in message for each in above if each not in (".", "run"))


def _short(content: Content, name: str) -> str:
    return repr(content.get(name))[:200]
