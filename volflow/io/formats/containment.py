"""Checks that paths in a volume's metadata stay within the volume that the user named.

Metadata are foreign input: the key of a scale, the path of a dataset or a link in a file could
name any other file that this process may read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote
from xml.etree import ElementTree

from volflow.errors import StorageError

if TYPE_CHECKING:
    import h5py

LINKS = 16  # soft links in a chain; as many as HDF5 itself follows


def require_below(path: object, what: str, where: str) -> str:
    """A path from metadata, if it stays below the metadata's own folder.

    Parameters
    ----------
    path : object
        As read; anything but text is refused.
    what, where : str
        The owner of the path, and the volume: for the message.

    Raises
    ------
    StorageError
        If it is absolute or goes up, even if only after percent-decoding.
    """
    if not isinstance(path, str):
        raise StorageError(f"{where}: {what}: expected a path as text; got {path!r}")
    for read in (path, unquote(path)):
        if read.startswith("/") or ".." in read.split("/"):
            raise StorageError(
                f"{where}: {what}: expected a path within the volume; got '{path}'; if that is a "
                f"volume, name it directly"
            )
    return path


def resolve_inside(file: h5py.File, name: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """The object of a name in an HDF5 file, through links within it; None if there is none.

    Raises
    ------
    StorageError
        If the links leave the file, or form a loop.
    """
    return _follow(file, file, name, where, LINKS)


def _follow(file: h5py.File, start: h5py.Group, name: str, where: str, links: int) -> h5py.Group:
    import h5py

    here = file if name.startswith("/") else start
    for part in name.split("/"):
        if part in ("", "."):
            continue
        if not isinstance(here, h5py.Group) or not here.id.links.exists(part.encode()):
            return None
        kind = here.id.links.get_info(part.encode()).type
        if kind == h5py.h5l.TYPE_HARD:
            here = here[part]
        elif kind != h5py.h5l.TYPE_SOFT:
            named = kind == h5py.h5l.TYPE_EXTERNAL
            target = here.get(part, getlink=True).filename if named else "an unknown place"
            raise _outside(where, name, f"a link to {target}")
        elif not links:
            raise StorageError(f"{where}: '{name}' is behind more than {LINKS} links")
        else:
            target = here.get(part, getlink=True).path
            here = _follow(file, here, target, where, links - 1)
    return here


def require_stored_inside(file: h5py.File, data: h5py.Dataset, where: str) -> None:
    """Raise if voxels of a dataset, or of datasets it is composed of, are stored in other files.

    HDF5 would read a missing file as zeros, and the name could be that of any file.

    Raises
    ------
    StorageError
    """
    import h5py

    seen = {data.id}
    left = [data]
    while left:
        each = left.pop()
        if each.external:
            raise _outside(where, each.name, f"stored in {each.external[0][0]}")
        if not each.is_virtual:
            continue
        sources = {(source.file_name, source.dset_name) for source in each.virtual_sources()}
        for other, name in sorted(sources):
            if other != ".":
                raise _outside(where, each.name, f"composed of {other}")
            source = resolve_inside(file, name, where)
            if not isinstance(source, h5py.Dataset):
                raise StorageError(f"{where}: {each.name} is composed of {name}, which is missing")
            if source.id not in seen:
                seen.add(source.id)
                left.append(source)


def _outside(where: str, name: str, how: str) -> StorageError:
    return StorageError(
        f"{where}: '{name}' is {how}, another file; if that is a volume, name it directly"
    )


def require_one_file(metadata: str | None, name: str, where: str) -> None:
    """Raise if the OME metadata of a TIFF file list other files as parts of the image.

    Parameters
    ----------
    metadata : str or None
        OME-XML, if the file has any.
    name : str
        Of the file.

    Raises
    ------
    StorageError
    """
    if metadata is None:
        return
    try:
        root = ElementTree.fromstring(metadata)
    except ElementTree.ParseError:
        return  # then tifffile does not follow it, either
    own = root.attrib.get("UUID")
    for element in root.iter():
        other = element.attrib.get("FileName", name)
        if not element.tag.endswith("UUID") or other.lower() == name.lower():
            continue
        if own is None or element.text != own:  # else it was renamed
            raise StorageError(
                f"{where}: its OME metadata name another file, '{other}'; expected one file of "
                f"pages, or a folder of sections"
            )
