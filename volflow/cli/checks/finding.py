"""One finding of `volflow doctor`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Verdict = Literal["ok", "none", "warning", "broken"]

REINSTALL = "reinstall, in the folder of the source code: make env, or pip install --upgrade ."


class Finding(NamedTuple):
    """The result of one check.

    `verdict` is `none` where something optional is absent; `remedy` is empty where none is needed.
    """

    subject: str
    verdict: Verdict
    text: str
    remedy: str = ""
