"""Conversion of skeletons: SWC into precomputed skeletons, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from volflow.errors import PlanError, StorageError

if TYPE_CHECKING:
    from volflow.io.address import Address

AT_ONCE = 1000  # skeletons that are read before they are written as files


def is_of_skeletons(text: str) -> bool:
    """Whether an address has a format of skeletons."""
    from volflow.io.address import SKELETONS, Address

    return Address.parse(text).format_name in SKELETONS


def convert_skeletons(source: str, destination: str, overwrite: bool) -> int:
    """Copy skeletons into another format; the number of skeletons.

    Parameters
    ----------
    source : str
        Address of a set of skeletons, or a plain path of one.
    destination : str
        `swc://FOLDER`, `swc://FILE.swc` or `precomputed-skeletons://FOLDER`.
    overwrite : bool
        Whether to write over skeletons with the same ids.

    Raises
    ------
    PlanError
        If the source cannot be read, or there is something at the destination.
    """
    from volflow.cli.terminal.formatting import print_warnings
    from volflow.io.address import Address
    from volflow.io.skeletons import SkeletonSet, write_skeletons

    try:
        skeletons = SkeletonSet.open(source)
    except StorageError as error:
        raise PlanError(f"SRC: {error}") from error
    place = Address.parse(destination)
    _require_free(place, overwrite)
    print_warnings(skeletons.warnings)
    names = list(skeletons.titles)
    try:
        if place.format_name == "swc" and not place.location.endswith(".swc"):
            for start in range(0, len(names), AT_ONCE):
                some = (skeletons.read(name) for name in names[start : start + AT_ONCE])
                write_skeletons(destination, some)
        else:
            shard = place.format_name != "swc"
            write_skeletons(destination, map(skeletons.read, names), shard=shard)
    except StorageError as error:
        raise PlanError(str(error)) from error
    return len(names)


def _require_free(place: Address, overwrite: bool) -> None:
    """Raise if there is something at the destination that is not to be replaced."""
    from volflow.io.store import Store

    folder, _, file = place.location.rpartition("/")
    if file.endswith(".swc"):
        occupied = Store(folder).read(file) is not None
    else:
        occupied = bool(Store(place.location).list())
    if occupied and not overwrite:
        raise PlanError(f"DST: {place} exists; choose another path, or give --overwrite")


def refuse_options(context: click.Context, allowed: tuple[str, ...]) -> None:
    """Raise if an option was given that has a meaning for volumes only."""
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in allowed and source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} applies to volumes, not to skeletons and tables"
            )
