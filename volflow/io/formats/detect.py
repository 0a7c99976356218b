"""The format of a volume: from its address, or from the files at it."""

from __future__ import annotations

from types import ModuleType

from volflow.errors import StorageError
from volflow.io.address import CHUNKED, Address
from volflow.io.formats import n5, omezarr, precomputed
from volflow.io.formats.files.open_file import file_format
from volflow.io.store import Store

CHUNKED_FORMATS: dict[str, ModuleType] = {
    "precomputed": precomputed,
    "zarr": omezarr,
    "zarr3": omezarr,
    "n5": n5,
}
"""Each is a module with `scales`, `open_scale`, `plan`, `create_scale`, `scale_folder` and
`delete_scales`. The layouts that `delete_scales` is given are those of all scales from the first to
delete on; None where the metadata of one are lost."""

_SUFFIXES = {".zarr": "zarr", ".zarr3": "zarr3", ".n5": "n5", ".precomputed": "precomputed"}


def with_format(path: str, new: bool = False) -> Address:
    """An address with its format: as given, or detected from the files at it.

    Parameters
    ----------
    path : str
        Address of a volume, with or without a format.
    new : bool
        Where there are no files yet, choose by the ending: `.zarr`, `.zarr3` or `.n5`, otherwise
        precomputed.

    Raises
    ------
    StorageError
        If there is no volume of a known format, or an option of the store is unknown.
    """
    address = Address.parse(path)
    if address.format_name in CHUNKED or not address.format_name:
        unknown = address.unknown_options()
        if unknown:
            raise StorageError(f"volume {path}: {unknown}")
    if address.format_name:
        return address
    name = file_format(address) or _chunked_format(address)
    if not name and new:
        suffix = "." + address.location.rpartition(".")[2]
        name = _SUFFIXES.get(suffix, "precomputed")
    if not name:
        Store(str(address)).require_bucket()
        raise StorageError(
            f"volume {path}: no volume there; expected precomputed (info), zarr, n5, HDF5, TIFF, "
            f"MRC, NIfTI, or a folder of TIFF, PNG or JPEG sections"
        )
    return Address(name, address.location, address.query)


def _chunked_format(address: Address) -> str:
    """The chunked format whose metadata are at an address; "" if there are none."""
    for name, module in CHUNKED_FORMATS.items():
        if module.scales(Address(name, address.location, address.query)) is not None:
            return name
    return ""
