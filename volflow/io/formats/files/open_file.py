"""Opening a volume in a file or a folder of sections.

Only headers are read on opening; each read takes the pages, sections or chunks that its box
touches. Files are opened per process and for reading, so many processes may read one.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from volflow.errors import StorageError
from volflow.io.address import FILES, Address
from volflow.io.formats.files import hdf5, image_files, mrc, nifti
from volflow.io.formats.files.hdf5 import Hdf5
from volflow.io.formats.files.mrc import MrcFile
from volflow.io.formats.files.nifti import NiftiFile
from volflow.io.formats.files.read_only import ReadOnlyArray
from volflow.io.formats.files.sections import Sections, is_pattern, section_files
from volflow.io.formats.files.stack_folder import StackFolder
from volflow.io.formats.files.tiff import TiffFile

_ENDINGS = {"hdf5": hdf5.ENDINGS, "mrc": mrc.ENDINGS, "nifti": nifti.ENDINGS}


def file_format(address: Address) -> str:
    """The format of a plain path: `hdf5`, `mrc`, `nifti` or `tiff`; "" if it is none of them.

    `tiff` stands for all images: a TIFF file, or a folder or pattern of sections.
    """
    path = address.local
    if path is None:
        return ""
    name = path.name.lower()
    for format_, endings in _ENDINGS.items():
        if name.endswith(endings):
            return format_
    if path.is_dir():
        has_images = any(child.suffix.lower() in image_files.ENDINGS for child in path.iterdir())
        return "tiff" if has_images else ""
    images = image_files.ENDINGS if is_pattern(path) else image_files.TIFF
    return "tiff" if name.endswith(images) else ""


def open_file(address: Address, level: int) -> ReadOnlyArray:
    """Open a volume in a file or a folder of sections.

    Raises
    ------
    StorageError
        If it does not exist, cannot be read, or its axes are not those of a volume.
    """
    if address.format_name not in FILES:
        raise StorageError(f"volume {address}: expected a volume; {address.format_name} holds none")
    if level:
        raise StorageError(
            f"volume {address}: {address.format_name} has one scale, not scale {level}"
        )
    path = address.local
    if path is None:
        raise StorageError(f"volume {address}: {address.format_name} is read from local files only")
    return _READERS[address.format_name](address, path)


def _open_images(address: Address, path: Path) -> ReadOnlyArray:
    if path.is_file() and path.suffix.lower() not in (*image_files.PNG, *image_files.JPEG):
        if address.query:
            raise StorageError(f"volume {address}: a file of pages has no options")
        return TiffFile(address, path)
    files, warnings = section_files(address, path)
    first = files[0]
    is_tiff = first.suffix.lower() in image_files.TIFF
    if is_tiff and image_files.read_header(address, first).pages > 1:
        return StackFolder(address, files, warnings)
    return Sections(address, files, warnings)


_READERS: dict[str, Callable[[Address, Path], ReadOnlyArray]] = {
    "hdf5": Hdf5,
    "mrc": MrcFile,
    "nifti": NiftiFile,
    "tiff": _open_images,
}
