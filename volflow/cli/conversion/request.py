"""A checked request to convert a volume: source, destination and options."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from volflow.errors import PlanError, StorageError

if TYPE_CHECKING:
    from volflow.core.geometry import Box, Resolution, Triple
    from volflow.engine.executors.profile import Profile
    from volflow.io.address import Address
    from volflow.io.volume import Volume

Kind = Literal["image", "affinity", "segmentation"]

AUTO = "auto"
CHUNK = 64  # voxels along each side of a chunk, by default
BLOCK = 128  # a block is whole chunks, about this many voxels along each side
WRITTEN_FILES = ("tiff", "hdf5")


@dataclass(frozen=True)
class Request:
    """One conversion.

    Attributes
    ----------
    volume : Volume
        The source, opened.
    destination : Address
        With its format.
    dtype : str
        Type of the copy, or `auto`: the smallest unsigned integer that holds the labels.
    chunk : Triple
        Voxels of a chunk.
    scales : int or None
        Scales of a chunked copy, the finest included; None: until the coarsest is small.
    out : str or None
        Folder of a run that can be resumed; None for a temporary one.
    """

    volume: Volume
    destination: Address
    dtype: str
    kind: Kind
    chunk: Triple
    encoding: str
    scales: int | None
    renumber: bool
    bounds: str | None
    out: str | None
    overwrite: bool
    profile: Profile

    @property
    def scans_labels(self) -> bool:
        """Whether the labels have to be listed before anything is written."""
        return self.renumber or self.dtype == AUTO

    @property
    def file(self) -> Path | None:
        """The file or folder of sections to write; None for a chunked volume."""
        return self.destination.local if self.destination.format_name in WRITTEN_FILES else None

    @property
    def resolution(self) -> Resolution | None:
        """Nanometres per voxel, z y x."""
        return self.volume.resolution

    @property
    def box(self) -> Box:
        """The voxels to convert.

        Raises
        ------
        PlanError
            If they are not all in the volume.
        """
        from volflow.core.geometry import Box

        if self.bounds is None:
            return self.volume.bounds
        try:
            box = Box.parse(self.bounds)
        except ValueError as error:
            raise PlanError(f"--bounds: {error}") from error
        if not box.size or not self.volume.bounds.covers(box):
            raise PlanError(f"--bounds: expected a box in {self.volume.bounds}; got {box}")
        return box

    @property
    def ids_table(self) -> str:
        """Address of the table of old and new ids: `neurons.ids.csv` for `neurons.tif`."""
        location = self.destination.location
        folder, slash, name = location.rpartition("/")
        for ending in (".zarr", ".zarr3", ".n5", ".precomputed", ".tif", ".tiff", ".h5", ".hdf5"):
            name = name.removesuffix(ending)
        return f"{folder}{slash}{name}.ids.csv"


def open_source(path: str, level: int, resolution: list[float] | None) -> Volume:
    """Open the volume to convert.

    Raises
    ------
    PlanError
        If it cannot be opened.
    """
    from volflow.config.pipeline import VolumeSpec
    from volflow.io.inputs import open_input

    spec = VolumeSpec.model_validate({"path": path, "level": level, "resolution": resolution})
    try:
        return open_input(spec)
    except StorageError as error:
        raise PlanError(f"SRC: {error}") from error


def destination_of(text: str) -> Address:
    """The address to write to, with its format.

    Raises
    ------
    PlanError
        If its format is only read, or a file is not local.
    """
    from volflow.io.address import Address
    from volflow.io.creation import writable_address
    from volflow.io.formats.files.open_file import file_format

    address = Address.parse(text)
    name = address.format_name or file_format(address)
    try:
        if name not in WRITTEN_FILES:
            return writable_address(text)
    except StorageError as error:
        raise PlanError(f"DST: {error}") from error
    if address.local is None:
        raise PlanError(f"DST: {text}: {name} is written to local files only")
    return Address(name, address.location, address.query)


def require_free(request: Request) -> None:
    """Raise if there is something at the destination, or something that will not be replaced.

    Raises
    ------
    PlanError
    """
    from volflow.io.creation import require_ours
    from volflow.io.store import Store

    destination, path = request.destination, request.destination.local
    if path is not None and path.is_file():
        occupied = True
    else:
        occupied = bool(Store(destination.location).list())
    if not occupied:
        return
    if not request.overwrite:
        raise PlanError(f"DST: {destination} exists; choose another path, or give --overwrite")
    if request.file is None:
        try:
            require_ours(destination)
        except StorageError as error:
            raise PlanError(f"DST: {error}") from error
    elif request.file.is_dir():
        raise PlanError(f"DST: {destination} is a folder with files in it; delete it yourself")
