"""SQLAlchemy 2 over psycopg: Core, reflection, ORM."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

sa = pytest.importorskip("sqlalchemy")
orm = pytest.importorskip("sqlalchemy.orm")
postgresql = pytest.importorskip("sqlalchemy.dialects.postgresql")


class Mood(enum.Enum):
    sad = "sad"
    ok = "ok"


metadata = sa.MetaData()
parents = sa.Table(
    "parents",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(always=False), primary_key=True),
    sa.Column("name", sa.String(20), nullable=False, comment="a name"),
    sa.Column("mood", sa.Enum(Mood, name="mood")),
    sa.Column("amount", sa.Numeric(12, 2), sa.CheckConstraint("amount >= 0", name="amount_positive")),
    sa.Column("made", sa.DateTime(timezone=True), server_default=sa.func.now()),
    sa.Column("tags", postgresql.ARRAY(sa.Text)),
    sa.Column("extra", postgresql.JSONB),
    sa.Column("twice", sa.Integer, sa.Computed("1 + 1", persisted=True)),
    sa.UniqueConstraint("name", name="parents_name_unique"),
    comment="the parents",
)
children = sa.Table(
    "children",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("parent_id", sa.ForeignKey("parents.id", name="children_parent", ondelete="CASCADE"), index=True),
    sa.Column("value", sa.Text),
)
sa.Index("children_lower", sa.func.lower(children.c.value), postgresql_where=children.c.parent_id > 0)


@pytest.fixture(scope="module")
def engine(dsn: str) -> Iterator[Any]:
    parts = dict(part.split("=") for part in dsn.split())
    made = sa.create_engine(f"postgresql+psycopg://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}")
    metadata.create_all(made)
    with made.begin() as connection:
        connection.execute(sa.text("CREATE VIEW names AS SELECT name FROM parents"))
    yield made
    with made.begin() as connection:
        connection.execute(sa.text("DROP VIEW names"))
    metadata.drop_all(made)
    assert sa.inspect(made).get_table_names() == []
    made.dispose()


def test_names(engine: Any) -> None:
    inspector = sa.inspect(engine)
    assert sorted(inspector.get_table_names()) == ["children", "parents"]
    assert inspector.get_view_names() == ["names"]
    assert "SELECT" in inspector.get_view_definition("names")
    assert "public" in inspector.get_schema_names()
    assert inspector.has_table("parents")
    assert not inspector.has_table("parent")
    assert sorted(inspector.get_sequence_names()) == ["children_id_seq", "parents_id_seq"]


def test_columns(engine: Any) -> None:
    columns = {column["name"]: column for column in sa.inspect(engine).get_columns("parents")}
    assert [str(columns[name]["type"]) for name in ("id", "name", "amount", "extra")] == [
        "BIGINT",
        "VARCHAR(20)",
        "NUMERIC(12, 2)",
        "JSONB",
    ]
    assert columns["mood"]["type"].enums == ["sad", "ok"]
    assert columns["tags"]["type"].item_type.__class__.__name__ == "TEXT"
    assert columns["made"]["default"] == "now()"
    assert columns["id"]["identity"]["always"] is False
    assert columns["twice"]["computed"]["persisted"] is True
    assert columns["name"]["comment"] == "a name"
    assert not columns["name"]["nullable"]


def test_constraints_and_indexes(engine: Any) -> None:
    inspector = sa.inspect(engine)
    assert inspector.get_pk_constraint("parents")["constrained_columns"] == ["id"]
    assert inspector.get_unique_constraints("parents")[0]["column_names"] == ["name"]
    checks = inspector.get_check_constraints("parents")
    assert [check["name"] for check in checks] == ["amount_positive"]
    (key,) = inspector.get_foreign_keys("children")
    assert (key["referred_table"], key["constrained_columns"], key["options"]) == (
        "parents",
        ["parent_id"],
        {"ondelete": "CASCADE"},
    )
    indexes = {index["name"]: index for index in inspector.get_indexes("children")}
    assert indexes["ix_children_parent_id"]["column_names"] == ["parent_id"]
    assert indexes["children_lower"]["expressions"] == ["lower(value)"]
    assert "parent_id > 0" in indexes["children_lower"]["dialect_options"]["postgresql_where"]
    assert inspector.get_table_comment("parents") == {"text": "the parents"}
    assert [e["name"] for e in inspector.get_enums()] == ["mood"]


def test_a_whole_schema_reflects(engine: Any) -> None:
    found = sa.MetaData()
    found.reflect(engine)
    assert sorted(found.tables) == ["children", "parents"]
    assert [fk.target_fullname for fk in found.tables["children"].foreign_keys] == ["parents.id"]


def test_core_statements(engine: Any) -> None:
    with engine.begin() as connection:
        rows = connection.execute(
            sa.insert(parents).returning(parents.c.id, parents.c.twice, parents.c.made),
            [
                {
                    "name": f"p{i}",
                    "mood": Mood.ok,
                    "amount": Decimal("1.50") * i,
                    "tags": ["a", str(i)],
                    "extra": {"i": i},
                }
                for i in range(5)
            ],
        ).all()
        assert [row.twice for row in rows] == [2] * 5
        assert all(isinstance(row.made, dt.datetime) for row in rows)
        query = (
            sa.select(parents.c.name, parents.c.extra["i"].as_integer(), parents.c.mood)
            .where(parents.c.tags.contains(["3"]), parents.c.amount > Decimal(1))
            .order_by(parents.c.name.desc())
        )
        assert connection.execute(query).all() == [("p3", 3, Mood.ok)]
        upsert = postgresql.insert(parents).values(name="p3", amount=9)
        upsert = upsert.on_conflict_do_update(constraint="parents_name_unique", set_={"amount": upsert.excluded.amount})
        connection.execute(upsert)
        assert connection.scalar(sa.select(sa.func.sum(parents.c.amount))) == Decimal("19.50")
        connection.execute(sa.delete(parents))


def test_errors_and_savepoints(engine: Any) -> None:
    with engine.begin() as connection:
        connection.execute(sa.insert(parents).values(name="once"))
        with pytest.raises(sa.exc.IntegrityError, match="parents_name_unique"), connection.begin_nested():
            connection.execute(sa.insert(parents).values(name="once"))
        assert connection.scalar(sa.select(sa.func.count()).select_from(parents)) == 1
        connection.rollback()


@pytest.mark.parametrize("level", ["SERIALIZABLE", "READ COMMITTED", "AUTOCOMMIT"])
def test_isolation_levels(engine: Any, level: str) -> None:
    with engine.connect().execution_options(isolation_level=level) as connection:
        assert connection.scalar(sa.text("SELECT 1")) == 1
        if level != "AUTOCOMMIT":
            assert connection.get_isolation_level() == level


class Base(orm.DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "authors"
    id = orm.mapped_column(sa.Integer, primary_key=True)
    name = orm.mapped_column(sa.Text)
    books = orm.relationship("Book", back_populates="author", cascade="all, delete-orphan")


class Book(Base):
    __tablename__ = "books"
    id = orm.mapped_column(sa.Integer, primary_key=True)
    title = orm.mapped_column(sa.Text)
    author_id = orm.mapped_column(sa.ForeignKey("authors.id"))
    author = orm.relationship("Author", back_populates="books")


def test_orm(engine: Any) -> None:
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(Author(name="Ann", books=[Book(title="One"), Book(title="Two")]))
        session.add_all([Author(name=f"A{i}") for i in range(30)])
        session.commit()
        author = session.scalars(
            sa.select(Author).where(Author.name == "Ann").options(orm.selectinload(Author.books))
        ).one()
        assert sorted(book.title for book in author.books) == ["One", "Two"]
        author.books.pop()
        author.name = "Anna"
        session.commit()
        joined = sa.select(Author.name, sa.func.count(Book.id)).join(Book).group_by(Author.name)
        assert session.execute(joined).all() == [("Anna", 1)]
        assert session.scalars(sa.select(Author).with_for_update().where(Author.id == author.id)).one() is author
        session.delete(author)
        session.commit()
        assert session.scalar(sa.select(sa.func.count()).select_from(Book)) == 0
    Base.metadata.drop_all(engine)
