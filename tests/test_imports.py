"""The modules of the package import each other in one direction."""

from __future__ import annotations

import grimp
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The groups of modules that import each other, imports inside functions included."""
    modules = sorted(graph.modules)
    number = {module: index for index, module in enumerate(modules)}
    edges = [
        (number[module], number[imported])
        for module in modules
        for imported in graph.find_modules_directly_imported_by(module)
    ]
    shape = (len(modules), len(modules))
    matrix = coo_array((np.ones(len(edges)), np.array(edges).T), shape=shape)
    count, group = connected_components(matrix.tocsr(), connection="strong")
    members = [np.flatnonzero(group == index) for index in range(count)]
    return [[modules[index] for index in each] for each in members if len(each) > 1]


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph("volflow", exclude_type_checking_imports=True, cache_dir=None)
    assert len(graph.modules) > 200
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")):
        graph.add_import(importer=importer, imported=imported)
    assert circles(graph) == [["b", "c"]]
