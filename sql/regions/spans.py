"""From descriptors to what the key space asks of its replicas: pure functions.

    home           the region of REGIONAL BY TABLE IN, a row's region, or the database's primary region
    survive zone   three voters at home; a copy that does not vote in every other region, for stale reads
    survive region five voters, two of them at home, no region with the majority
    restricted     nothing of a regional table leaves its home
    global         a copy in every region, for reads of now

Tables of databases without regions ask for nothing: three voters, far apart.  System ranges, and whatever else no
table is in, survive what the most careful database survives.
"""

from __future__ import annotations

from typing import Final

from base.keys import KeyCodec, KeyColumn, index_prefix, table_span
from base.types import PgType
from kvtier.replication.constraints import Span, SpanConfig, SpanConfigs
from planner.schema import PRIMARY_INDEX_ID, IndexDesc, LocalityDesc, RegionConfig, TableDesc
from sql.catalog.state import CatalogState

ZONE_VOTERS: Final = 3
REGION_VOTERS: Final = 5
REGION_HOME_VOTERS: Final = 2
"""Enough at home for a leaseholder to lose its node and stay there."""


def span_config(config: RegionConfig, locality: LocalityDesc, home: str = "") -> SpanConfig:
    """Returns what a table, or the partition of one region of it, asks for; ``home`` "" is what the locality says."""
    home = home or locality.region or config.primary
    leads = locality.kind == "global"
    if config.placement == "restricted" and not leads:
        return SpanConfig(ZONE_VOTERS, ((home, ZONE_VOTERS),), False, (home,), (home,), home)
    if config.survival == "region":
        voters = ((home, REGION_HOME_VOTERS),)
        return SpanConfig(REGION_VOTERS, voters, True, config.regions, (home, config.primary), leads=leads)
    return SpanConfig(ZONE_VOTERS, ((home, ZONE_VOTERS),), False, config.regions, (home,), leads=leads)


def table_spans(config: RegionConfig, table: TableDesc, type_of_regions: PgType) -> list[Span]:
    """Returns the spans of a table's keys, in order and without gaps between them."""
    start, end = table_span(table.key_prefix_table or table.id)
    if table.locality.kind != "row":
        return [Span(start, end, span_config(config, table.locality))]
    borders = sorted(
        [(head, region) for index in table.indexes for region, head in _heads(table, index, type_of_regions)]
    )
    spans: list[Span] = []
    for at, (head, region) in enumerate(borders):
        following = borders[at + 1][0] if at + 1 < len(borders) else end
        spans.append(Span(head if at else start, following, span_config(config, table.locality, region)))
    return spans


def _heads(table: TableDesc, index: IndexDesc, type_of_regions: PgType) -> list[tuple[str, bytes]]:
    """Returns the regions with what the keys of an index's rows there begin with."""
    first = index.columns[0]
    assert first.column_id == table.locality.column_id, index.name
    column = KeyColumn(type_of_regions, first.descending, index.id != PRIMARY_INDEX_ID, first.nulls_first)
    codec = KeyCodec(index_prefix(table.key_prefix_table or table.id, index.id), [column])
    return [(region, codec.encode_prefix([region])) for region in type_of_regions.enum_labels]


def catalog_spans(state: CatalogState) -> SpanConfigs:
    """Returns what the whole key space asks for."""
    regions = {desc.id: desc.regions for desc in state.databases() if desc.regions is not None}
    if not regions:
        return _NOTHING_ASKED
    default = SpanConfig()
    if any(config.survival == "region" for config in regions.values()):
        default = SpanConfig(REGION_VOTERS, survives_region=True)
    spans = [
        span
        for table in state.by_id.values()
        if isinstance(table, TableDesc) and table.kind == "r" and table.database_id in regions
        for span in table_spans(regions[table.database_id], table, state.types[regions[table.database_id].type_id])
    ]
    return SpanConfigs(spans, default)


_NOTHING_ASKED: Final = SpanConfigs()


class CatalogSpans:
    """The spans of a catalog that changes: derived again only where something of them has changed."""

    def __init__(self) -> None:
        self._state: CatalogState | None = None
        self._spans = _NOTHING_ASKED

    def of(self, state: CatalogState) -> SpanConfigs:
        """Returns the same object as long as the same is asked."""
        if state is not self._state:
            self._state = state
            spans = catalog_spans(state)
            if spans != self._spans:
                self._spans = spans
        return self._spans
