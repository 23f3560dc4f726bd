"""What regions and localities ask of the key space, case by case."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from base.keys import KeyCodec, KeyColumn, index_prefix, table_span
from base.types import INT4
from kvtier.replication.closing import IDLE_ROUNDS
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from kvtier.replication.settings import ReplicationSettings
from node.member import MAX_OFFSET_SECONDS
from planner.schema import DatabaseDesc, IndexColumn, IndexDesc, LocalityDesc, RegionConfig, TableDesc, TypeDesc
from sql.asof import FOLLOWER_READ_US
from sql.catalog.state import CatalogState, enum_type
from sql.regions.spans import CatalogSpans, catalog_spans, span_config, table_spans

ABC = ("a", "b", "c")
ZONE = RegionConfig("a", ABC, 1)
TYPE = TypeDesc(1, 1, 10, 11, "crdb_internal_region", 2, (("a", 1), ("b", 2), ("c", 3)), is_regions=True)
REGIONS = enum_type(TYPE, "public")
REGION = RegionConfig("a", ABC, 1, survival="region")
RESTRICTED = RegionConfig("a", ABC, 1, placement="restricted")
PRIMARY = LocalityDesc()
IN_B = LocalityDesc(region="b")

CASES = [
    (ZONE, PRIMARY, "", SpanConfig(3, (("a", 3),), False, ABC, ("a",))),
    (ZONE, IN_B, "", SpanConfig(3, (("b", 3),), False, ABC, ("b",))),
    (ZONE, LocalityDesc("row", column_id=1), "c", SpanConfig(3, (("c", 3),), False, ABC, ("c",))),
    (REGION, PRIMARY, "", SpanConfig(5, (("a", 2),), True, ABC, ("a", "a"))),
    (REGION, IN_B, "", SpanConfig(5, (("b", 2),), True, ABC, ("b", "a"))),
    (RESTRICTED, IN_B, "", SpanConfig(3, (("b", 3),), False, ("b",), ("b",), "b")),
    # What is read everywhere is everywhere.
    (RESTRICTED, LocalityDesc("global"), "", SpanConfig(3, (("a", 3),), False, ABC, ("a",), leads=True)),
    (RegionConfig("a", ("a",), 1), PRIMARY, "", SpanConfig(3, (("a", 3),), False, ("a",), ("a",))),
]


@pytest.mark.parametrize(("config", "locality", "home", "wanted"), CASES)
def test_what_a_table_asks_for(config: RegionConfig, locality: LocalityDesc, home: str, wanted: SpanConfig) -> None:
    assert span_config(config, locality, home) == wanted


def table(id: int, locality: LocalityDesc = PRIMARY, database_id: int = 10, prefix: int = 0) -> TableDesc:
    return TableDesc(id, 1, database_id, 11, f"t{id}", locality=locality, key_prefix_table=prefix)


def state(*descs: DatabaseDesc | TableDesc) -> CatalogState:
    return CatalogState.empty().replace({desc.id: desc for desc in (TYPE, *descs)})


def test_each_region_of_a_table_by_row_asks_for_its_own() -> None:
    by_row = LocalityDesc("row", column_id=1)
    indexes = (
        IndexDesc(1, "k", (IndexColumn(1), IndexColumn(2)), True, implicit=1),
        IndexDesc(2, "s", (IndexColumn(1), IndexColumn(3)), implicit=1),
    )
    found = table_spans(ZONE, msgspec.structs.replace(table(100, by_row), indexes=indexes), REGIONS)
    assert [span.config.lease_regions for span in found] == [("a",), ("b",), ("c",)] * 2
    assert (found[0].start, found[-1].end) == table_span(100)
    assert all(left.end == right.start for left, right in pairwise(found))
    key = KeyCodec(index_prefix(100, 1), [KeyColumn(REGIONS, False, False), KeyColumn(INT4, False, False)])
    entry = KeyCodec(index_prefix(100, 2), [KeyColumn(REGIONS), KeyColumn(INT4)])
    spans = SpanConfigs(found)
    for region in ABC:
        for at in (
            key.encode([region, -5]),
            key.encode([region, 7]),
            entry.encode([region, 7]),
            entry.encode([region, None]),
        ):
            assert spans.config(at).lease_regions == (region,)


def test_tables_of_databases_without_regions_ask_for_nothing() -> None:
    found = catalog_spans(state(DatabaseDesc(10, 1, "plain"), table(100, IN_B)))
    assert found.border(b"", b"\xff") is None
    assert found.config(table_span(100)[0]) == SpanConfig()


def test_each_table_asks_for_its_own_keys() -> None:
    found = catalog_spans(
        state(
            DatabaseDesc(10, 1, "plain"),
            DatabaseDesc(20, 1, "world", regions=REGION),
            table(100, database_id=20),
            table(101, database_id=20),
            table(102, IN_B, 20, prefix=200),
            table(103),
        )
    )
    assert found.config(table_span(100)[0]) == found.config(table_span(101)[0]) == span_config(REGION, PRIMARY)
    assert found.config(table_span(200)[0]) == span_config(REGION, IN_B)
    # Neighbours that ask for the same are not parted.
    assert found.border(b"", b"\xff") == table_span(100)[0]
    assert found.border(table_span(100)[0], b"\xff") == table_span(101)[1]
    # What is nobody's survives what the most careful database does.
    for key in (b"", b"\x03d", table_span(103)[0]):
        assert found.config(key) == SpanConfig(5, survives_region=True)


def test_spans_are_derived_again_only_for_what_changes_them() -> None:
    spans = CatalogSpans()
    before = state(DatabaseDesc(10, 1, "world", regions=ZONE), table(100))
    first = spans.of(before)
    assert spans.of(before.replace({300: table(300, database_id=99)})) is first
    changed = spans.of(before.replace({100: table(100, IN_B)}))
    assert changed is not first
    assert changed.config(table_span(100)[0]) == table_spans(ZONE, table(100, IN_B), REGIONS)[0].config
    assert table_spans(ZONE, table(100), REGIONS) == [Span(*table_span(100), span_config(ZONE, PRIMARY))]


def test_a_follower_read_is_older_than_what_followers_of_idle_ranges_serve() -> None:
    settings = ReplicationSettings()
    oldest = settings.closed_lag_seconds + settings.closed_interval_seconds * IDLE_ROUNDS + MAX_OFFSET_SECONDS
    assert oldest < FOLLOWER_READ_US / 1e6
