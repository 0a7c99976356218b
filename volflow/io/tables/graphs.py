"""The connectome as a sparse matrix or a graph, for scipy, networkx and Cytoscape."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from volflow.errors import StorageError

MOST_EDGES = 200_000  # of GraphML: 14 s, 17 MB
MISSING = "GraphML needs the package networkx: pip install '.[graph]'"
_DATE = (1980, 1, 1, 0, 0, 0)


def edges_of(columns: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Presynaptic and postsynaptic neurons, and numbers of synapses, of a table.

    It is one of edges (`pre`, `post`, `synapses`), or one of synapses (`pre`, `post`), which are
    counted. Synapses without a neuron on one side are left out.

    Returns
    -------
    uint64 (E,), uint64 (E,), int64 (E,)
        In the order of pre and post, each pair once.

    Raises
    ------
    StorageError
        If the table has no columns `pre` and `post`.
    """
    missing = [name for name in ("pre", "post") if name not in columns]
    if missing:
        raise StorageError(f"expected columns pre and post; got {', '.join(columns)}")
    pair = np.stack([np.asarray(columns[name]).astype(np.uint64) for name in ("pre", "post")])
    count = np.asarray(columns.get("synapses", np.ones(pair.shape[1]))).astype(np.int64)
    there = (pair > 0).all(axis=0)
    edges, row = np.unique(pair[:, there], axis=1, return_inverse=True)
    total = np.zeros(edges.shape[1], np.int64)
    np.add.at(total, row.ravel(), count[there])
    return edges[0], edges[1], total


def matrix_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """The numbers of synapses as an npz file that `scipy.sparse.load_npz` reads; no pickle.

    Row i and column i belong to the neuron `neurons[i]`, an array of the file; rows are
    presynaptic.
    """
    pre, post, count = edges_of(columns)
    neurons = np.unique(np.concatenate([pre, post]))
    rows = np.searchsorted(neurons, pre)
    arrays = {
        "indices": np.searchsorted(neurons, post).astype(np.int32),
        "indptr": np.searchsorted(rows, np.arange(len(neurons) + 1)).astype(np.int32),
        "format": np.array(b"csr"),
        "shape": np.array([len(neurons)] * 2, np.int64),
        "data": count,
        "neurons": neurons,
    }
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)  # the same bytes at any time
            archive.writestr(entry, part.getvalue(), zipfile.ZIP_DEFLATED)
    return body.getvalue()


def graphml_bytes(columns: Mapping[str, np.ndarray]) -> bytes:
    """The directed graph of neurons as GraphML; edges have `synapses`.

    Raises
    ------
    StorageError
        If networkx is missing, or there are more than `MOST_EDGES` edges.
    """
    pre, post, count = edges_of(columns)
    if len(pre) > MOST_EDGES:
        raise StorageError(
            f"GraphML: expected at most {MOST_EDGES:,} edges, got {len(pre):,}; write a sparse "
            f"matrix (.npz) or a table instead"
        )
    try:
        import networkx
    except ImportError as error:
        raise StorageError(MISSING) from error
    graph = networkx.DiGraph()
    for one, other, number in zip(pre.tolist(), post.tolist(), count.tolist(), strict=True):
        graph.add_edge(str(one), str(other), synapses=number)
    return "\n".join(networkx.generate_graphml(graph)).encode() + b"\n"
