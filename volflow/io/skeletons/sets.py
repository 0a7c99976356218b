"""Sets of skeletons: SWC files and Neuroglancer's precomputed skeletons, read and written.

    swc://traced.swc                            one file
    swc://traced?unit_nm=8&axis_order=xyz       a folder, or a zip, of them, in voxels of 8 nm
    precomputed-skeletons://gs://bucket/skeletons
    traced.zip                                  a plain path: found by looking

What follows the `?` says what the numbers mean: `axis_order` (xyz or zyx, of the columns),
`unit_nm` (one number, or three for z,y,x), `radius_nm` (default: the smallest of `unit_nm`); for
precomputed ones `ids`, separated by commas. `spacing_nm` adds nodes to either, so that no edge is
longer.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from volflow.core.skeleton import Skeleton, resampled
from volflow.errors import StorageError
from volflow.io.address import SKELETONS, Address
from volflow.io.skeletons import precomputed
from volflow.io.skeletons.swc import AXES, Scaling, format_swc, parse_swc
from volflow.io.store import Store

OPTIONS = {
    "swc": ("axis_order", "unit_nm", "radius_nm", "spacing_nm"),
    "precomputed-skeletons": ("ids", "spacing_nm"),
}
SUFFIX = ".swc"
LARGEST = 1 << 64  # names are uint64
AT_ONCE = 256  # skeletons fetched together


@dataclass(frozen=True)
class SkeletonSet:
    """Skeletons under one address, each read when it is asked for.

    Attributes
    ----------
    address : Address
    titles : mapping of int to str
        The names, ascending, and what each was called where it is stored. A file whose name is
        a whole number is called so; where one of them is not, they are numbered from 1 in the
        order of their names.
    """

    address: Address
    titles: Mapping[int, str]
    _bodies: Mapping[str, bytes] | None
    """By title; None where the bytes are fetched when they are needed."""
    _info: Mapping[str, Any]

    @classmethod
    def open(cls, text: str) -> SkeletonSet:
        """Find out which skeletons there are.

        Raises
        ------
        StorageError
            If nothing is there, it is no set of skeletons, or an option is wrong.
        """
        address = _with_format(Address.parse(text))
        _options(address)
        if address.format == "swc":
            bodies = _files(address)
            return cls(address, _titles(list(bodies), address), bodies, {})
        info = precomputed.read_info(address.location)
        if info is None:
            raise StorageError(f"skeletons {address}: there is no 'info' of skeletons")
        given = dict(address.query).get("ids")
        found = precomputed.names(address.location, info) if given is None else _ids(given, address)
        return cls(address, {name: str(name) for name in found}, None, info)

    def read(self, name: int) -> Skeleton:
        """One skeleton, in nanometres.

        Raises
        ------
        StorageError
            If it is missing or wrong; with the file, and for SWC the line.
        """
        if name not in self.titles:
            raise StorageError(f"skeletons {self.address}: there is no skeleton {name}")
        return self._decoded({self.titles[name]: self._body(name)})[0]

    def read_all(self) -> tuple[list[Skeleton], str]:
        """All skeletons in the order of their names, and a digest of their bytes and options."""
        hashed, found, names = hashlib.blake2b(digest_size=16), [], list(self.titles)
        hashed.update(json.dumps([self.address.format, sorted(self.address.query)]).encode())
        hashed.update(json.dumps(dict(self._info), sort_keys=True).encode())
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            bodies = self._fetched(part)
            for title, body in bodies.items():
                hashed.update(json.dumps([title, len(body)]).encode() + body)
            found += self._decoded(bodies)
        return found, hashed.hexdigest()

    def _body(self, name: int) -> bytes:
        return self._fetched([name])[self.titles[name]]

    def _fetched(self, names: list[int]) -> dict[str, bytes]:
        """Stored bytes by title."""
        if self._bodies is not None:
            return {self.titles[name]: self._bodies[self.titles[name]] for name in names}
        found = precomputed.read_bytes(self.address.location, dict(self._info), names)
        return {self.titles[name]: body for name, body in found.items()}

    def _decoded(self, bodies: Mapping[str, bytes]) -> list[Skeleton]:
        named = {title: name for name, title in self.titles.items()}
        scaling, spacing = _options(self.address)
        found = []
        for title, body in bodies.items():
            file = f"{self.address.location}/{title}"
            try:
                if self.address.format == "swc":
                    text = body.decode("utf-8", errors="replace")
                    one = parse_swc(text, named[title], file, scaling)
                else:
                    one = precomputed.decode(body, named[title], dict(self._info))
                found.append(resampled(one, spacing) if spacing else one)
            except ValueError as error:
                raise StorageError(f"{file}: {error}") from error
        return found


def write_skeletons(text: str, skeletons: Iterable[Skeleton], *, shard: bool = False) -> None:
    """Write skeletons, each under its name.

    Parameters
    ----------
    text : str
        `swc://FOLDER` (a file `NAME.swc` each; `axis_order`, `unit_nm` and `radius_nm` say how
        numbers are written), `swc://FILE.swc` for a single one, or
        `precomputed-skeletons://FOLDER`.
    skeletons : iterable of Skeleton
    shard : bool
        Precomputed ones: into a few shards instead of a file each.

    Raises
    ------
    StorageError
        If the format is not told, an option is wrong, or several are to go into one file.
    """
    address = Address.parse(text)
    if address.format not in SKELETONS:
        known = ", ".join(f"{name}://" for name in SKELETONS)
        raise StorageError(f"skeletons {text}: expected an address that begins with {known}")
    scaling, _ = _options(address)
    every = list(skeletons)
    if address.format != "swc":
        precomputed.write(address.location, every, shard)
        return
    folder, _, file = address.location.rpartition("/")
    if not file.endswith(SUFFIX):
        store = Store(address.location)
        for skeleton in every:
            store.write(f"{skeleton.name}{SUFFIX}", format_swc(skeleton, scaling).encode())
    elif len(every) == 1:
        Store(folder).write(file, format_swc(every[0], scaling).encode())
    else:
        raise StorageError(f"skeletons {text}: one file holds one skeleton; got {len(every)}")


# --- addresses -----------------------------------------------------------------------------------


def _with_format(address: Address) -> Address:
    """The address with its format: told, or found by looking at what is there."""
    if address.format in SKELETONS:
        return address
    if address.format:
        raise StorageError(f"skeletons {address}: {address.format} is a format of volumes")
    found = ""
    if address.location.endswith((SUFFIX, ".zip")):
        found = "swc"
    elif precomputed.read_info(address.location) is not None:
        found = "precomputed-skeletons"
    elif address.local is not None and any(address.local.glob(f"*{SUFFIX}")):
        found = "swc"
    if not found:
        raise StorageError(
            f"skeletons {address}: nothing there looks like skeletons (SWC files, a zip of them, "
            f"or Neuroglancer's precomputed skeletons)"
        )
    return Address(found, address.location, address.query)


def _options(address: Address) -> tuple[Scaling, float]:
    """What the numbers mean, and the longest edge (0: as they are)."""
    given, known = dict(address.query), OPTIONS[address.format]
    for name in given:
        if name not in known:
            raise StorageError(
                f"skeletons {address}: there is no option '{name}' (options: {', '.join(known)})"
            )
    order = given.get("axis_order", "xyz")
    if order not in AXES:
        raise StorageError(f"skeletons {address}: axis_order is xyz or zyx; got {order!r}")
    z, *rest = _numbers(address, "unit_nm", given.get("unit_nm", "1"))
    if len(rest) not in (0, 2):
        raise StorageError(f"skeletons {address}: unit_nm is one number or three, for z,y,x")
    unit = (z, *rest) if len(rest) == 2 else (z, z, z)
    radius = _numbers(address, "radius_nm", given.get("radius_nm", repr(min(unit))))
    spacing = _numbers(address, "spacing_nm", given["spacing_nm"]) if "spacing_nm" in given else [0]
    if len(radius) > 1 or len(spacing) > 1:
        raise StorageError(f"skeletons {address}: radius_nm and spacing_nm are one number each")
    return Scaling(order, (unit[0], unit[1], unit[2]), radius[0]), spacing[0]


def _numbers(address: Address, name: str, text: str) -> list[float]:
    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        found = [0.0]
    if not all(0 < value < float("inf") for value in found):
        raise StorageError(
            f"skeletons {address}: {name} is a positive number of nanometres; got {text!r}"
        )
    return found


def _ids(text: str, address: Address) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) < LARGEST for word in words):
        raise StorageError(f"skeletons {address}: ids are numbers such as 3,14; got {text!r}")
    return sorted({int(word) for word in words})


# --- files ---------------------------------------------------------------------------------------


def _files(address: Address) -> dict[str, bytes]:
    """SWC files by name, in the order of their names: a file, those of a folder or of a zip."""
    folder, _, file = address.location.rpartition("/")
    if file.endswith((SUFFIX, ".zip")):
        body = Store(folder or "/").read(file)
        if body is None:
            raise StorageError(f"skeletons {address}: there is no file {address.location}")
        found = {file: body} if file.endswith(SUFFIX) else _unzipped(body, address)
    else:
        store = Store(address.location)
        keys = [key for key in store.list() if key.endswith(SUFFIX) and "/" not in key]
        found = store.read_many(keys, whole=True)  # text that is cut short is text
    if not found:
        raise StorageError(f"skeletons {address}: there are no files {SUFFIX}")
    return dict(sorted(found.items()))


def _unzipped(body: bytes, address: Address) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for path in archive.namelist():
                name = path.rpartition("/")[2]
                # what macOS adds to each file of an archive
                if not name.endswith(SUFFIX) or name.startswith("._"):
                    continue
                if name in found:
                    raise StorageError(f"skeletons {address}: the zip holds {name} twice")
                found[name] = archive.read(path)
    except zipfile.BadZipFile as error:
        raise StorageError(f"skeletons {address}: {error}") from error
    return found


def _titles(files: list[str], address: Address) -> dict[int, str]:
    """Files by the name of their skeleton, ascending."""
    stems = [file.removesuffix(SUFFIX) for file in files]
    if all(stem.isdecimal() and int(stem) < LARGEST for stem in stems):
        found = {int(stem): file for stem, file in zip(stems, files, strict=True)}
        if len(found) < len(files):
            raise StorageError(f"skeletons {address}: two files are one number with zeros before")
        return dict(sorted(found.items()))
    return dict(enumerate(files, 1))
