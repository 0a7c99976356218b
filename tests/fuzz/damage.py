"""One damage of one file: cut short, a byte flipped, a range zeroed or repeated, emptied, deleted.

Also a digit of a text replaced by another, which leaves a plausible number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

HOWS = ("cut", "cut", "flipped", "flipped", "flipped", "zeroed", "repeated", "digit", "emptied",
        "deleted")  # fmt: skip
"""Kinds of damage, as often as each is drawn."""
SHORTENING = ("cut", "emptied")
TRIES = 40  # draws until the bytes of a file change


@dataclass(frozen=True)
class Damage:
    """A change of the bytes of a file.

    Attributes
    ----------
    file : str
        Below the folder of the case.
    how : str
        One of `HOWS`.
    start, stop : int
        The bytes that changed, as they were counted before; all that follow `start` were moved
        where a range was repeated or cut off.
    before, after : bytes
        The file's bytes; empty after it was deleted.
    """

    file: str
    how: str
    start: int
    stop: int
    before: bytes
    after: bytes

    @property
    def name(self) -> str:
        """The name of the file without its folders."""
        return Path(self.file).name

    def __str__(self) -> str:
        size = len(self.before)
        return f"{self.file} ({size} bytes) {self.how}, {self.start} to {self.stop}"


def damage(folder: Path, rng: np.random.Generator, only: Sequence[str] = ()) -> Damage:
    """Damage one file below a folder, among all, or those of patterns (`*` has slashes)."""
    files = sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
    chosen = [name for name in files if not only or any(fnmatch(name, each) for each in only)]
    assert chosen, f"no file of {only} in {folder}"
    for _ in range(TRIES):
        # As often in each folder of alike files, so that a few files of metadata have their turn.
        kinds = sorted({_likeness(name) for name in chosen})
        likeness = kinds[rng.integers(len(kinds))]
        alike = [name for name in chosen if _likeness(name) == likeness]
        done = _drawn(folder, alike[rng.integers(len(alike))], rng)
        if done is not None:
            break
    else:
        raise AssertionError(f"no damage of {chosen} changes a byte")
    path = folder / done.file
    if done.how == "deleted":
        path.unlink()
    else:
        path.write_bytes(done.after)
    return done


def _likeness(name: str) -> str:
    """A name without its digits."""
    return "".join(letter for letter in name if not letter.isdigit())


def _drawn(folder: Path, file: str, rng: np.random.Generator) -> Damage | None:
    """A damage of a file; None if it would leave the bytes as they are."""
    body = (folder / file).read_bytes()
    size, how = len(body), HOWS[rng.integers(len(HOWS))]
    if how in ("emptied", "deleted") or not size:
        how = "emptied" if how == "emptied" and size else "deleted"
        return Damage(file, how, 0, size, body, b"")
    start = int(rng.integers(size))
    stop = min(size, start + 1)
    if how == "cut":
        if rng.random() < 0.3:
            start = max(0, size - int(rng.integers(1, 17)))
        return Damage(file, how, start, size, body, body[:start])
    if how == "digit":
        places = [at for at, byte in enumerate(body) if 48 <= byte <= 57]
        if not places or not body.isascii():
            return None
        start = places[rng.integers(len(places))]
        new = bytes([48 + (body[start] - 48 + int(rng.integers(1, 10))) % 10])
        return Damage(file, how, start, start + 1, body, body[:start] + new + body[start + 1 :])
    if how == "flipped":
        mask = 1 << int(rng.integers(8)) if rng.random() < 0.5 else int(rng.integers(1, 256))
        new = bytes([body[start] ^ mask])
    else:
        start = 0 if rng.random() < 0.15 else start  # where headers and indices are
        stop = min(size, start + int(rng.integers(1, 1 + min(256, size))))
        new = bytes(stop - start) if how == "zeroed" else 2 * body[start:stop]
    after = body[:start] + new + body[stop:]
    return None if after == body else Damage(file, how, start, stop, body, after)
