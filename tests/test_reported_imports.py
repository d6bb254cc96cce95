"""Reported kinds of faults: import circles."""

import grimp


def test_kind_20_the_encoders_import_in_one_direction() -> None:
    graph = grimp.build_graph("syncdiff_data", cache_dir=None)
    features = {name for name in graph.modules if name.startswith("syncdiff_data.features.")}
    assert "syncdiff_data.features.avhubert" in features
    circles = {
        (one, other)
        for one in features
        for other in graph.find_modules_directly_imported_by(one) & features
        if graph.chain_exists(importer=other, imported=one)
    }
    assert circles == set()
