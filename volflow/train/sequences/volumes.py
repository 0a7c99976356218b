"""Volumes whose objects are followed: images, labels and the layers of offline networks.

Offline layers are predicted once, by the networks that a source names, and stored in the
training's folder under a name that contains a digest of the image and of the network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from volflow.checkpoints.find import bundled_networks
from volflow.checkpoints.header import Nanometres
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.train.config.sequences import SequenceSource, SequenceTraining
from volflow.train.data.resample import resampled_image, resampled_shape
from volflow.train.data.samples import Source
from volflow.train.data.sources import SourceRequirements, open_source
from volflow.train.data.volumes import source_bounds, synthetic_volume
from volflow.train.validation.evaluate import predicted

CHANNELS = {"d": 3, "m": 1, "syn": 1}
"""Channels of each offline layer: affinities z y x, mitochondria, clefts."""

RESAMPLED = {"d": "yx", "m": "zyx", "syn": "zyx"}
"""Axes along which an image is resampled for the network of a layer: affinities along z join the
sections as they are."""


@dataclass(frozen=True)
class FollowedVolume:
    """A volume whose objects are followed.

    Parameters
    ----------
    source : Source
        Image float32 (Z, Y, X), truth int32 (Z, Y, X).
    offline : dict of str to uint8 array (C, Z, Y, X)
        Layers that the volume has: d (3 channels), m and syn (1 each); 255 is probability 1.
    """

    source: Source
    offline: dict[str, np.ndarray]


def open_volume(spec: SequenceSource, training: SequenceTraining, folder: Path) -> FollowedVolume:
    """Read a volume; predict and store its offline layers where the folder does not have them.

    Raises
    ------
    PlanError
        If a network is not bundled or lacks the channels of a layer.
    """
    required = SourceRequirements(training.voxel_size_nm)
    source = open_source(spec, training.normalisation, required)
    if spec.synthetic is not None:
        return FollowedVolume(source, _rendered_layers(spec, source))
    size = _voxel_size(spec, training)
    layers: dict[str, np.ndarray] = {
        kind: _stored_layer(kind, name, source, size, folder / "offline", training.threads)
        for kind, name in spec.offline.items()
    }
    return FollowedVolume(source, layers)


def _voxel_size(spec: SequenceSource, training: SequenceTraining) -> Nanometres:
    """The voxel size of a source after resampling."""
    stored = spec.voxel_size_nm
    if stored is None and spec.image is not None:
        stored = Volume.open(spec.image).resolution
    if stored is None:
        return training.voxel_size_nm
    z, y, x = (
        wanted if name in spec.resample and abs(size / wanted - 1) > 0.1 else size
        for size, wanted, name in zip(stored, training.voxel_size_nm, "zyx", strict=True)
    )
    return z, y, x


def _stored_layer(
    kind: str, network: str, source: Source, size: Nanometres, folder: Path, threads: int
) -> np.ndarray:
    """A layer from the folder, or predicted and stored there."""
    path = bundled_networks().get(network)
    if path is None:
        raise PlanError(
            f"{source.name}: offline.{kind}: there is no bundled network '{network}'; expected one "
            f"of {', '.join(bundled_networks())}"
        )
    digest = hashlib.sha256(path.read_bytes())
    digest.update(repr((source.image.shape, size, kind)).encode())
    digest.update(np.ascontiguousarray(source.image).tobytes())
    place = folder / f"{source.name}.{kind}.{digest.hexdigest()[:16]}.npy"
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True)
        layer = predicted_layer(kind, path, source.image, size, threads)
        temporary = place.with_suffix(".writing.npy")
        np.save(temporary, layer, allow_pickle=False)
        temporary.replace(place)
    stored: np.ndarray = np.load(place, allow_pickle=False)
    return stored


def predicted_layer(
    kind: str, path: Path, image: np.ndarray, size: Nanometres, threads: int = 1
) -> np.ndarray:
    """An offline layer of an image.

    Parameters
    ----------
    kind : str
        d, m or syn: the first three channels of the network, or its first one.
    path : Path
        Checkpoint of the network.
    image : float32, (Z, Y, X)
        Normalised intensities.
    size : three floats
        Voxel size of the image z y x, nanometres. It is resampled to that of the network.
    threads : int

    Returns
    -------
    uint8, (C, Z, Y, X)
    """
    network, header = load_checkpoint(path)
    if header.out_channels < CHANNELS[kind]:
        raise PlanError(
            f"{path.name}: expected at least {CHANNELS[kind]} channels for offline.{kind}, got "
            f"{header.out_channels}"
        )
    shape = resampled_shape(image.shape, size, header.voxel_size_nm, RESAMPLED[kind])
    inference = Inference(network, header, range(CHANNELS[kind]), threads=threads)
    layer = predicted(inference, resampled_image(image, shape))
    return np.stack([resampled_image(channel, image.shape) for channel in layer])


def _rendered_layers(spec: SequenceSource, source: Source) -> dict[str, np.ndarray]:
    """The layers of a synthetic volume: its affinities, and its masks with soft borders."""
    assert spec.synthetic is not None
    scene = synthetic_volume(spec.synthetic).scene(source_bounds(spec))
    layers = {"d": scene.rendered.affinity}
    masks = {"m": scene.mitochondria, "syn": None if scene.sides is None else scene.sides == 1}
    for kind, mask in masks.items():
        if mask is not None:
            layers[kind] = _soft(mask != 0)[None]
    shape = source.image.shape
    return {
        kind: np.stack([resampled_image(channel, shape) for channel in layer])
        for kind, layer in layers.items()
    }


def _soft(mask: np.ndarray) -> np.ndarray:
    """A mask with borders about two pixels wide, uint8 (Z, Y, X)."""
    soft: np.ndarray = np.rint(
        ndimage.gaussian_filter(mask.astype(np.float32), (0, 1, 1)) * 255
    ).astype(np.uint8)
    return soft
