"""The target model of the few-shot learner: features convolved with an object's filters.

A convolution is a product with a matrix of columns, one per pixel: the 3x3 neighbourhoods of the
features. The columns of a section are made once, for all steps of the descent and all objects.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import unfold

KERNEL = 3


def columns(features: Tensor) -> Tensor:
    """The neighbourhoods of all pixels, zero outside the image.

    Parameters
    ----------
    features : (T, C, Y, X)

    Returns
    -------
    (T, 9 C, Y X)
    """
    return unfold(features, KERNEL, padding=KERNEL // 2)


def respond(columns: Tensor, filters: Tensor) -> Tensor:
    """The responses E * w of all objects' filters.

    Parameters
    ----------
    columns : (T, K, N)
        Of T sections, see `columns`.
    filters : (B, D, K)
        D filters of each of B objects; K = 9 C, as in a kernel (D, C, 3, 3).

    Returns
    -------
    (T, B, D, N)
    """
    objects, outputs, length = filters.shape
    flat = filters.reshape(objects * outputs, length) @ columns  # (T, B D, N)
    return flat.reshape(len(columns), objects, outputs, columns.shape[2])


def adjoint(columns: Tensor, residual: Tensor) -> Tensor:
    """The adjoint of `respond`, summed over sections.

    It is the gradient of a convolution with respect to its kernel, not a transposed convolution:
    <E * w, r> = <w, adjoint(E, r)>.

    Parameters
    ----------
    columns : (T, K, N)
    residual : (T, B, D, N)

    Returns
    -------
    (B, D, K)
    """
    _, objects, outputs, _ = residual.shape
    flat = residual.flatten(1, 2) @ columns.transpose(1, 2)  # (T, B D, K)
    return flat.sum(0).reshape(objects, outputs, columns.shape[1])
