"""Columns of CREATE TABLE and ADD COLUMN: types, defaults, serials and identities."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from base.errors import FeatureNotSupported, SqlError
from base.keytypes import key_form
from base.types import INT2, INT4, INT8, PgType
from planner.schema import ColumnDesc, IndexDesc, LayoutDesc, SchemaDesc, TableDesc
from sql.ddl.sequences import create_owned_sequence
from sql.parse import statements as ast
from sql.view import SERIALS

if TYPE_CHECKING:
    from sql.session import Session

COLUMNS_MAX: Final = 1600
SYSTEM_COLUMNS: Final = ("tableoid", "xmin", "xmax", "cmin", "cmax", "ctid")
INTEGERS: Final = (INT2, INT4, INT8)
ROWID: Final = "rowid"
"""Hidden primary key of a table that has none."""
ROWID_DEFAULT: Final = "unique_rowid()"


def layout_columns(
    columns: tuple[ColumnDesc, ...], primary: IndexDesc, types: dict[int, PgType]
) -> tuple[tuple[int, int], ...]:
    """Returns what a row value holds: every column the primary key does not give back exactly."""
    in_key = {c.column_id for c in primary.columns if key_form(types[c.column_id]).restorable}
    return tuple((column.id, column.type_oid) for column in columns if column.id not in in_key)


def with_new_layout(
    table: TableDesc, columns: tuple[ColumnDesc, ...], primary: IndexDesc, types: dict[int, PgType]
) -> tuple[tuple[LayoutDesc, ...], int]:
    """Returns (layouts, next layout id): the table's, and one more if its columns now need another format."""
    wanted = layout_columns(columns, primary, types)
    if table.layouts and table.layouts[-1].columns == wanted:
        return table.layouts, table.next_layout_id
    return (*table.layouts, LayoutDesc(table.next_layout_id, wanted)), table.next_layout_id + 1


def column_types(session: Session, columns: tuple[ColumnDesc, ...]) -> dict[int, PgType]:
    """Returns the type of each column id."""
    result: dict[int, PgType] = {}
    for column in columns:
        pg_type = session.state().type_by_oid(column.type_oid)
        assert pg_type is not None, column
        result[column.id] = pg_type
    return result


async def build_column(
    session: Session,
    table_id: int,
    table_name: str,
    schema: SchemaDesc,
    written: ast.ColumnDef,
    id: int,
    nullable: bool,
) -> ColumnDesc:
    """Makes a column's descriptor; a serial or identity column also makes its sequence."""
    name = written.name
    if name in SYSTEM_COLUMNS:
        raise SqlError(f'column name "{name}" conflicts with a system column name', sqlstate="42701")
    pg_type, typmod = session.view().type_named(written.type)
    if pg_type.kind == "p":
        raise SqlError(f'column "{name}" has pseudo-type {pg_type.name}', sqlstate="42P16")
    default = stored_default(session, written.default.text) if written.default is not None else ""
    sequence_id = 0
    is_serial = len(written.type.names) == 1 and written.type.names[0] in SERIALS
    if is_serial or written.identity:
        if written.identity and pg_type not in INTEGERS:
            raise SqlError("identity column type must be smallint, integer, or bigint", sqlstate="22023")
        if default:
            kind = "identity" if written.identity else "default"
            raise SqlError(
                f'multiple {kind} values specified for column "{name}" of table "{table_name}"', sqlstate="42601"
            )
        sequence = await create_owned_sequence(
            session, schema, table_id, table_name, id, name, pg_type, written.identity_options
        )
        sequence_id, default = sequence.id, next_value_text(schema, sequence)
        nullable = False
    if written.generated is not None and default:
        raise SqlError(
            f'both default and generation expression specified for column "{name}" of table "{table_name}"',
            sqlstate="42601",
        )
    return ColumnDesc(
        id=id, name=name, type_oid=pg_type.oid, typmod=typmod, nullable=nullable, default=default, identity=written.identity,
        generated=written.generated.text if written.generated is not None else "", sequence_id=sequence_id, hidden=written.hidden,
        collation=_collation(written.collation),
    )  # fmt: skip


def next_value_text(schema: SchemaDesc, sequence: TableDesc) -> str:
    """Returns the DEFAULT of a serial column: nextval of its sequence, by OID so that a rename does no harm."""
    return f"nextval({sequence.id}::regclass)"


_NEXTVAL: Final = re.compile(r"nextval\(\s*'((?:[^']|'')+)'\s*(?:::\s*(?:pg_catalog\.)?regclass\s*)?\)", re.IGNORECASE)


def stored_default(session: Session, text: str) -> str:
    """A default as it is stored: nextval of a named sequence holds on to the sequence, not to its name."""
    from sql.regnames import REGCLASS

    found = _NEXTVAL.fullmatch(text.strip())
    if found is None:
        return text
    oid = session.regs.oid_of(REGCLASS, found[1].replace("''", "'"))
    table = session.state().table_by_id(oid)
    return f"nextval({oid}::regclass)" if table is not None and table.kind == "S" else text


def _collation(name: ast.Name | None) -> str:
    if name is None or name.name in ("default", "C", "POSIX", "ucs_basic"):
        return name.name if name is not None and name.name != "default" else ""
    raise FeatureNotSupported(f'collation "{name.name}" is not supported', hint='Text sorts by bytes: COLLATE "C".')


def rowid_column(id: int) -> ColumnDesc:
    """Returns the hidden key column of a table without a primary key."""
    return ColumnDesc(id=id, name=ROWID, type_oid=INT8.oid, nullable=False, default=ROWID_DEFAULT, hidden=True)


def check_unique_names(names: list[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise SqlError(f'column "{name}" specified more than once', sqlstate="42701")
    if len(names) > COLUMNS_MAX:
        raise SqlError(f"tables can have at most {COLUMNS_MAX} columns", sqlstate="54011")


def column_named(table_name: str, columns: tuple[ColumnDesc, ...], name: str) -> ColumnDesc:
    """Finds a column; raises 42703 in the words of a constraint's column list."""
    for column in columns:
        if column.name == name:
            return column
    raise SqlError(f'column "{name}" named in key does not exist', sqlstate="42703")
