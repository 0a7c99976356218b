"""Public weights of ResNets and of detectors, by torchvision's names of tensors.

Weights of a classifier (`conv1.weight`, `layer1.0.conv1.weight`, ...) fit the backbone, those of a
Faster or Mask R-CNN with pyramid (`backbone.body.conv1.weight`, `rpn.head...`) all of the detector
but its embedding head. Files of torch are pickles, which may run code, and are not read: convert
one with `safetensors.torch.save_file(torch.load(FILE, weights_only=True), TARGET)`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from volflow.errors import PlanError

BODY = "backbone.body."
IGNORED = re.compile(r"num_batches_tracked$|^fc\.|^roi_heads\.(mask|keypoint)_")
PREDICTOR = "roi_heads.box_predictor."
FORMER = (
    (re.compile(r"(fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$"), r"\1.0.\2"),
    (re.compile(r"(rpn\.head\.conv)\.(weight|bias)$"), r"\1.0.0.\2"),
)
"""Names of older versions with their present ones."""


def load_public_weights(path: str | os.PathLike[str], network: nn.Module) -> list[str]:
    """Copy public weights of a safetensors file into a detector; see `copy_public_weights`.

    Raises
    ------
    PlanError
        If the file cannot be read or does not fit.
    """
    try:
        stored = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PlanError(
            f"start_backbone: '{path}' cannot be read; expected a safetensors file: {error}"
        ) from error
    return copy_public_weights(stored, network)


def copy_public_weights(stored: Mapping[str, Tensor], network: nn.Module) -> list[str]:
    """Copy tensors with torchvision's names into a detector.

    The three colours of a first convolution are added up where the detector takes one grey value,
    which equals a section repeated three times; further channels of the detector start with no
    weight. A box predictor for other classes keeps its fresh weights.

    Parameters
    ----------
    stored : mapping of str to tensor
    network : nn.Module
        A `QuasiDense`, changed in place.

    Returns
    -------
    list of str
        The detector's tensors that were copied.

    Raises
    ------
    PlanError
        If a tensor does not fit, or the backbone is not complete.
    """
    own = network.state_dict()
    named = {_present_name(name): t for name, t in stored.items() if not IGNORED.search(name)}
    copied = []
    for name, tensor in named.items():
        fitting = _fitted(name, tensor, own)
        if fitting is not None:
            own[name].copy_(fitting)
            copied.append(name)
    missing = [name for name in own if name.startswith(BODY) and name not in copied]
    if missing:
        raise PlanError(
            f"start_backbone: expected all of the backbone; '{missing[0].removeprefix(BODY)}' is "
            f"missing, and {len(missing) - 1} more (public weights need `norm: frozen`)"
        )
    return copied


def _present_name(name: str) -> str:
    """The detector's name of a tensor of a classifier or of an older detector."""
    if not name.startswith(("backbone.", "rpn.", "roi_heads.")):
        name = BODY + name
    for pattern, present in FORMER:
        name = pattern.sub(present, name)
    return name


def _fitted(name: str, tensor: Tensor, own: Mapping[str, Tensor]) -> Tensor | None:
    """A stored tensor in the shape of the detector's own; None: not to be copied."""
    if name.startswith(PREDICTOR):
        if name.endswith(("bbox_pred.weight", "bbox_pred.bias")) and len(tensor) == 8:
            tensor = tensor[4:]  # one box for each class, background first
        if name not in own or tensor.shape != own[name].shape:
            return None
    if name not in own:
        raise PlanError(f"start_backbone: the detector has no tensor '{name}'")
    target = own[name]
    if name == f"{BODY}conv1.weight" and tensor.shape[1] != target.shape[1]:
        grey = target.new_zeros(target.shape)
        if tensor.shape[0] == target.shape[0] and tensor.shape[2:] == target.shape[2:]:
            grey[:, 0] = tensor.sum(1)
            return grey
    if tensor.shape != target.shape:
        raise PlanError(
            f"start_backbone: '{name}' does not fit; expected shape {tuple(target.shape)}, got "
            f"{tuple(tensor.shape)}"
        )
    return tensor
