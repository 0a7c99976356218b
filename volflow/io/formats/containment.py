"""What the metadata of a volume names has to lie within the volume that the user named.

Metadata is data, and often somebody else's: the key of a scale, the path of a dataset or a link in
a file could name any other file that we may read. Whoever wants that one names it.
"""

from __future__ import annotations

from urllib.parse import unquote
from xml.etree import ElementTree

import h5py

from volflow.errors import StorageError

LINKS = 16  # soft links that lead on to one another; as many as HDF5 itself follows


def require_below(path: object, what: str, where: str) -> str:
    """A path that metadata give, if it leads down from where they lie.

    Parameters
    ----------
    path : object
        As it was read; anything that is no text is refused, too.
    what, where : str
        Whose path, and of which volume: for the message.

    Raises
    ------
    StorageError
        If it is absolute or goes up, also where a server would decode it.
    """
    if not isinstance(path, str):
        raise StorageError(f"{where}: {what} wants a path as text; got {path!r}")
    for read in (path, unquote(path)):
        if read.startswith("/") or ".." in read.split("/"):
            raise StorageError(
                f"{where}: {what} lies at '{path}', outside the volume; where that is a volume, "
                f"name it itself"
            )
    return path


def resolve_inside(file: h5py.File, name: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """What an HDF5 file holds under a name, through links within the file; None if nothing.

    Raises
    ------
    StorageError
        If the way there leaves the file, or goes in circles.
    """
    return _follow(file, file, name, where, LINKS)


def _follow(file: h5py.File, start: h5py.Group, name: str, where: str, links: int) -> h5py.Group:
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
            to = here.get(part, getlink=True).filename if named else "who knows where"
            raise _outside(where, name, f"a link to {to}")
        elif not links:
            raise StorageError(f"{where}: '{name}' is behind more than {LINKS} links")
        else:
            to = here.get(part, getlink=True).path
            here = _follow(file, here, to, where, links - 1)
    return here


def require_stored_inside(file: h5py.File, data: h5py.Dataset, where: str) -> None:
    """Raise if voxels of a dataset lie in other files, or are put together of some that do.

    HDF5 would read what such a file lacks as zeros, or it could be any file at all.

    Raises
    ------
    StorageError
    """
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
                raise _outside(where, each.name, f"made of {other}")
            found = resolve_inside(file, name, where)
            if not isinstance(found, h5py.Dataset):
                raise StorageError(f"{where}: {each.name} is made of {name}, which is not there")
            if found.id not in seen:
                seen.add(found.id)
                left.append(found)


def _outside(where: str, name: str, how: str) -> StorageError:
    return StorageError(
        f"{where}: '{name}' is {how}, another file; where that is a volume, name it itself"
    )


def require_one_file(metadata: str | None, name: str, where: str) -> None:
    """Raise if OME metadata in a TIFF file say that other files hold a part of it.

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
        return  # then nobody follows it
    own = root.attrib.get("UUID")
    for element in root.iter():
        other = element.attrib.get("FileName", name)
        if not element.tag.endswith("UUID") or other.lower() == name.lower():
            continue
        if own is None or element.text != own:  # else it was renamed
            raise StorageError(
                f"{where}: its OME metadata name another file, '{other}'; volflow reads one "
                f"file of pages, or a folder of sections"
            )
