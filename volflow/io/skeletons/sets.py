"""Sets of skeletons: SWC files and Neuroglancer's precomputed skeletons, read and written.

    swc://traced.swc                            one file
    swc://traced?unit_nm=8&axis_order=xyz       a folder, or a zip, of them, in voxels of 8 nm
    precomputed-skeletons://gs://bucket/skeletons
    traced.zip                                  a plain path: its format is detected

Options after the `?` of SWC: `axis_order` of the columns (xyz or zyx), `unit_nm` (one number, or
three for z,y,x), `radius_nm` (default: the smallest of `unit_nm`), and `header` (`apply`, or
`ignore` for a header's OFFSET and SCALE). Of precomputed skeletons: `ids`, separated by commas. Of
both: `spacing_nm`, the longest edge; longer ones get more nodes.
"""

from __future__ import annotations

import codecs
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
from volflow.io.reading import reading
from volflow.io.skeletons import precomputed
from volflow.io.skeletons.swc import AXES, SUFFIX, Scaling, format_swc, parse_swc
from volflow.io.store import Store
from volflow.io.text_end import end_warnings

OPTIONS = {
    "swc": ("axis_order", "unit_nm", "radius_nm", "spacing_nm", "header"),
    "precomputed-skeletons": ("ids", "spacing_nm"),
}
LARGEST = 1 << 64  # names are uint64
AT_ONCE = 256  # skeletons read at the same time


@dataclass(frozen=True)
class SkeletonSet:
    """Skeletons under one address, each read on request.

    Attributes
    ----------
    address : Address
    titles : mapping of int to str
        The ids, ascending, and the name under which each is stored. Files whose names are all
        whole numbers have those as ids; otherwise they are numbered from 1 in the order of their
        names.
    """

    address: Address
    titles: Mapping[int, str]
    _bodies: Mapping[str, bytes] | None
    """By title; None if bytes are read on request."""
    _info: Mapping[str, Any]

    @classmethod
    def open(cls, text: str) -> SkeletonSet:
        """Open a set, and list its skeletons.

        Raises
        ------
        StorageError
            If there are no skeletons, or an option is wrong.
        """
        with reading(text, "skeletons"):
            address = _with_format(Address.parse(text))
            _options(address)
            if address.format_name == "swc":
                bodies = _files(address)
                return cls(address, _titles(list(bodies), address), bodies, {})
            info = precomputed.read_info(address.location)
            if info is None:
                raise StorageError(f"skeletons {address}: no 'info' of skeletons")
            given = dict(address.query).get("ids")
            if given is None:
                ids = precomputed.names(address.location, info)
            else:
                ids = _ids(given, address)
            return cls(address, {name: str(name) for name in ids}, None, info)

    @property
    def has_unit(self) -> bool:
        """Whether the unit of positions is stated: in the address of SWC, always in precomputed."""
        is_swc = self.address.format_name == "swc"
        return not is_swc or "unit_nm" in dict(self.address.query)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on SWC files that may be cut short."""
        return () if self._bodies is None else end_warnings(self._bodies)

    def read(self, name: int) -> Skeleton:
        """The skeleton of an id, in nanometres.

        Raises
        ------
        StorageError
            If it is missing or invalid; the message has the file, and for SWC the line.
        """
        if name not in self.titles:
            raise StorageError(f"skeletons {self.address}: no skeleton {name}")
        return self._decoded({self.titles[name]: self._body(name)})[0]

    def read_all(self) -> tuple[list[Skeleton], str]:
        """All skeletons in the order of their ids, and a digest of their bytes and options."""
        hashed, skeletons, names = hashlib.blake2b(digest_size=16), [], list(self.titles)
        hashed.update(json.dumps([self.address.format_name, sorted(self.address.query)]).encode())
        hashed.update(json.dumps(dict(self._info), sort_keys=True).encode())
        for start in range(0, len(names), AT_ONCE):
            part = names[start : start + AT_ONCE]
            bodies = self._fetched(part)
            for title, body in bodies.items():
                hashed.update(json.dumps([title, len(body)]).encode() + body)
            skeletons += self._decoded(bodies)
        return skeletons, hashed.hexdigest()

    def _body(self, name: int) -> bytes:
        return self._fetched([name])[self.titles[name]]

    def _fetched(self, names: list[int]) -> dict[str, bytes]:
        """Stored bytes by title."""
        if self._bodies is not None:
            return {self.titles[name]: self._bodies[self.titles[name]] for name in names}
        with reading(str(self.address), "skeletons"):
            bodies = precomputed.read_bytes(self.address.location, dict(self._info), names)
        return {self.titles[name]: body for name, body in bodies.items()}

    def _decoded(self, bodies: Mapping[str, bytes]) -> list[Skeleton]:
        named = {title: name for name, title in self.titles.items()}
        scaling, spacing = _options(self.address)
        skeletons = []
        for title, body in bodies.items():
            file = f"{self.address.location}/{title}"
            with reading(file):
                if self.address.format_name == "swc":
                    text = _text(body)
                    one = parse_swc(text, named[title], file, scaling)
                else:
                    one = precomputed.decode(body, named[title], dict(self._info))
                skeletons.append(resampled(one, spacing) if spacing else one)
        return skeletons


def write_skeletons(text: str, skeletons: Iterable[Skeleton], *, shard: bool = False) -> None:
    """Write skeletons, each under its id.

    Parameters
    ----------
    text : str
        `swc://FOLDER` (a file `ID.swc` each, in the units of the options `axis_order`, `unit_nm`
        and `radius_nm`), `swc://FILE.swc` for a single one, or
        `precomputed-skeletons://FOLDER`.
    skeletons : iterable of Skeleton
    shard : bool
        Write precomputed skeletons into a few shards instead of a file each.

    Raises
    ------
    StorageError
        If there is no format, an option is wrong, or there are several skeletons for one file.
    """
    address = Address.parse(text)
    if address.format_name not in SKELETONS:
        known = ", ".join(f"{name}://" for name in SKELETONS)
        raise StorageError(f"skeletons {text}: expected an address that begins with {known}")
    scaling, _ = _options(address)
    every = list(skeletons)
    if address.format_name != "swc":
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
        raise StorageError(
            f"skeletons {text}: expected one skeleton for one file; got {len(every)}"
        )


# --- addresses -----------------------------------------------------------------------------------


def _with_format(address: Address) -> Address:
    """The address with its format: as given, or detected from the files at it."""
    if address.format_name in SKELETONS:
        return address
    if address.format_name:
        raise StorageError(f"skeletons {address}: {address.format_name} is a format of volumes")
    name = ""
    if address.location.endswith((SUFFIX, ".zip")):
        name = "swc"
    elif precomputed.read_info(address.location) is not None:
        name = "precomputed-skeletons"
    elif address.local is not None and any(address.local.glob(f"*{SUFFIX}")):
        name = "swc"
    if not name:
        raise StorageError(
            f"skeletons {address}: no skeletons there; expected SWC files, a zip of them, or "
            f"Neuroglancer's precomputed skeletons"
        )
    return Address(name, address.location, address.query)


def _options(address: Address) -> tuple[Scaling, float]:
    """The units of the numbers, and the longest edge in nanometres (0: any)."""
    given, known = dict(address.query), OPTIONS[address.format_name]
    for name in given:
        if name not in known:
            raise StorageError(
                f"skeletons {address}: no option '{name}' (options: {', '.join(known)})"
            )
    order = given.get("axis_order", "xyz")
    if order not in AXES:
        raise StorageError(f"skeletons {address}: axis_order: expected xyz or zyx; got {order!r}")
    z, *rest = _numbers(address, "unit_nm", given.get("unit_nm", "1"))
    if len(rest) not in (0, 2):
        raise StorageError(f"skeletons {address}: unit_nm: expected one number, or three for z,y,x")
    unit = (z, *rest) if len(rest) == 2 else (z, z, z)
    radius = _numbers(address, "radius_nm", given.get("radius_nm", repr(min(unit))))
    spacing = _numbers(address, "spacing_nm", given["spacing_nm"]) if "spacing_nm" in given else [0]
    if len(radius) > 1 or len(spacing) > 1:
        raise StorageError(f"skeletons {address}: radius_nm, spacing_nm: expected one number each")
    header = given.get("header", "apply")
    if header not in ("apply", "ignore"):
        raise StorageError(f"skeletons {address}: header: expected apply or ignore; got {header!r}")
    sides = (unit[0], unit[1], unit[2])
    return Scaling(order, sides, radius[0], header == "apply"), spacing[0]


def _numbers(address: Address, name: str, text: str) -> list[float]:
    try:
        numbers = [float(word) for word in text.split(",")]
    except ValueError:
        numbers = [0.0]
    if not all(0 < value < float("inf") for value in numbers):
        raise StorageError(
            f"skeletons {address}: {name}: expected a positive number of nanometres; got {text!r}"
        )
    return numbers


def _ids(text: str, address: Address) -> list[int]:
    words = text.split(",")
    if not all(word.isdecimal() and int(word) < LARGEST for word in words):
        raise StorageError(f"skeletons {address}: ids: expected numbers such as 3,14; got {text!r}")
    return sorted({int(word) for word in words})


# --- files ---------------------------------------------------------------------------------------


def _files(address: Address) -> dict[str, bytes]:
    """SWC files by name, in the order of their names: one file, or those in a folder or a zip."""
    folder, _, file = address.location.rpartition("/")
    if file.endswith((SUFFIX, ".zip")):
        body = Store(folder or "/").read(file)
        if body is None:
            raise StorageError(f"skeletons {address}: no file {address.location}")
        files = {file: body} if file.endswith(SUFFIX) else _unzipped(body, address)
    else:
        store = Store(address.location)
        keys = [key for key in store.list() if key.endswith(SUFFIX) and "/" not in key]
        files = store.read_many(keys, whole=True)  # the beginning of a text is a text
    if not files:
        raise StorageError(f"skeletons {address}: no files {SUFFIX}")
    return dict(sorted(files.items()))


def _text(body: bytes) -> str:
    """The text of a file, without a byte order mark."""
    if body.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return body.decode("utf-16", errors="replace")
    return body.decode("utf-8-sig", errors="replace")


def _unzipped(body: bytes, address: Address) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            for path in archive.namelist():
                name = path.rpartition("/")[2]
                # macOS adds such a file for each file of an archive
                if not name.endswith(SUFFIX) or name.startswith("._"):
                    continue
                if name in files:
                    raise StorageError(f"skeletons {address}: the zip holds {name} twice")
                files[name] = archive.read(path)
    except zipfile.BadZipFile as error:
        raise StorageError(f"skeletons {address}: {error}") from error
    return files


def _titles(files: list[str], address: Address) -> dict[int, str]:
    """Files by the id of their skeleton, ascending."""
    stems = [file.removesuffix(SUFFIX) for file in files]
    if all(stem.isdecimal() and int(stem) < LARGEST for stem in stems):
        titles = {int(stem): file for stem, file in zip(stems, files, strict=True)}
        if len(titles) < len(files):
            raise StorageError(
                f"skeletons {address}: two files have the same number, but for leading zeros"
            )
        return dict(sorted(titles.items()))
    return dict(enumerate(files, 1))
