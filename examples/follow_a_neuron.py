"""One neuron, followed from a click through all sections, with a strip of pictures.

    python examples/follow_a_neuron.py [--image em.zarr --point 24,96,80] [--follower affinity]

Without --image, a synthetic volume is made, and the point is in the largest neuron of its middle
section; the result is then compared with the truth. `strip.png` shows sections from first to last
around the cell, the cell in colour.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import imagecodecs
import numpy as np

import volflow

SIDE = 96  # pixels of a picture
PICTURES = 8
COLOUR = np.array([255, 170, 0])


def make_volume(out: Path, size: int) -> tuple[str, tuple[int, int, int]]:
    """A synthetic volume, and a point in the largest neuron of its middle section."""
    run, depth = out / "synth", size // 3
    bounds = f"0:{depth},0:{size},0:{size}"
    volflow.run("synth", bounds=bounds, overrides=[f"run={run}"])
    truth = volflow.open_volume(f"precomputed://{run}/truth")[depth // 2 : depth // 2 + 1][0]
    names, sizes = np.unique(truth[truth > 0], return_counts=True)
    y, x = np.nonzero(truth == names[sizes.argmax()])
    middle = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).argmin()
    return f"precomputed://{run}/em", (depth // 2, int(y[middle]), int(x[middle]))


def strip(image: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Sections in a row, uint8 (SIDE, pictures * SIDE, 3), around the middle of a cell.

    Parameters
    ----------
    image : uint8, (Z, Y, X)
    cell : bool, (Z, Y, X)
    """
    pictures = []
    for z in np.linspace(0, len(image) - 1, PICTURES).astype(int):
        y, x = np.nonzero(cell[z]) if cell[z].any() else np.nonzero(cell.any(axis=0))
        top, left = (
            int(np.clip(np.mean(places) - SIDE / 2, 0, max(0, side - SIDE)))
            for places, side in zip((y, x), image.shape[1:], strict=True)
        )
        here = slice(top, top + SIDE), slice(left, left + SIDE)
        grey = np.repeat(image[z][here][..., None], 3, axis=2).astype(float)
        grey[cell[z][here]] = 0.6 * grey[cell[z][here]] + 0.4 * COLOUR
        pictures.append(np.pad(grey, [(0, 2), (0, 2), (0, 0)], constant_values=255))
    return np.concatenate(pictures, axis=1).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image")
    parser.add_argument("--point", help="z,y,x in voxels")
    parser.add_argument("--size", type=int, default=160, help="sides of the synthetic volume")
    parser.add_argument("--model", default="synth-affinity", help="network of the affinities")
    parser.add_argument("--follower", default="affinity", help="follower of the stage track")
    parser.add_argument("--out", default=tempfile.gettempdir() + "/volflow-follow")
    options = parser.parse_args()
    out = Path(options.out)
    if options.image is None:
        image, point = make_volume(out, options.size)
    else:
        z, y, x = (int(number) for number in options.point.split(","))
        image, point = options.image, (z, y, x)

    # As on the command line: volflow run follow --set 'steps.ahead.points=[[24, 96, 80]]' ...
    followed = [f"steps.{way}.points=[{list(point)}]" for way in ("ahead", "back")]
    followed += [f"steps.{way}.follower={options.follower}" for way in ("ahead", "back")]
    volflow.run(
        "follow",
        overrides=[
            f"run={out}/follow",
            f"volumes.em.path={image}",
            f"steps.predict.model={options.model}",
            *followed,
        ],
    )
    cell = volflow.open_volume(f"precomputed://{out}/follow/segmentation")[:] == 1
    em = volflow.open_volume(image)[:]
    picture = strip(em, cell)
    (out / "strip.png").write_bytes(imagecodecs.png_encode(picture))
    print(f"followed from {point} through {int(cell.any(axis=(1, 2)).sum())} of {len(em)} sections")
    print(f"{cell.sum()} voxels; pictures in {out}/strip.png")
    if options.image is None:
        truth = volflow.open_volume(f"precomputed://{out}/synth/truth")[:]
        neuron = truth == truth[point]
        print(f"IoU with the truth {(cell & neuron).sum() / (cell | neuron).sum():.3f}")


if __name__ == "__main__":
    main()
