"""Reported kinds of faults: import circles."""

import grimp
import networkx
import pytest


@pytest.mark.parametrize("room", ["syncdiff_data", "syncdiff_eval", "syncdiff_model"])
def test_kind_20_modules_import_in_one_direction(room: str) -> None:
    graph = grimp.build_graph(room, cache_dir=None)
    packages = {name.rpartition(".")[0] for name in graph.modules}
    modules = graph.modules - packages  # A package's __init__ only gathers names.
    imports = networkx.DiGraph(
        (one, other) for one in modules for other in graph.find_modules_directly_imported_by(one) & modules
    )
    assert [circle for circle in networkx.strongly_connected_components(imports) if len(circle) > 1] == []
