"""The Hermitage cases (Kleppmann; after Adya's phenomena) and a few more, per isolation level.

What PostgreSQL does at the same level is what we do, except that SERIALIZABLE writers meet here at
row locks as well.  Each script runs with one-phase commits and with intents.
"""

from __future__ import annotations

import pytest

from tests.txn.stories import RC, RR, SER, Story
from txn.settings import TxnSettings

pytestmark = pytest.mark.usefixtures("each_store")

MODES = [TxnSettings(), TxnSettings(force_intents=True)]
every_mode = pytest.mark.parametrize("settings", MODES, ids=["one-phase", "intents"])
every_level = pytest.mark.parametrize("level", [RC, RR, SER], ids=["rc", "rr", "ser"])


@every_mode
@every_level
def test_g0_dirty_write(level, settings):
    """Two writers of the same rows never mix: the second waits for the first."""
    story = Story(level, settings).play("""
        T2 begin
        T2 get k            -> ok
        T1 begin
        T1 update x 11
        T2 update x 12      -> waits
        T1 update y 21
        T1 commit
    """)
    if level == RC:
        story.play("""
            T2 ...
            T2 update y 22
            T2 commit
        """)
        assert story.rows() == "x=12 y=22"
    elif level == RR:
        story.play("T2 ...   -> 40001 write_too_old")
        assert story.rows() == "x=11 y=21"
    else:
        # What T2 has read is the same after T1: its timestamp moves up, as if it had begun later.
        story.play("""
            T2 ...
            T2 update y 22
            T2 commit
        """)
        assert story.rows() == "x=12 y=22"


@every_mode
@every_level
def test_g1a_aborted_read(level, settings):
    """What is rolled back was never visible."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 update x 101
        T2 get x            -> 10
        T1 rollback
        T2 get x            -> 10
        T2 commit
    """)
    assert story.rows() == "x=10 y=20"


@every_mode
@every_level
def test_g1b_intermediate_read(level, settings):
    """A value that its writer overwrote again is never visible."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 update x 101
        T2 get x            -> 10
        T1 update x 11
        T1 commit
    """)
    story.play("T2 get x   -> 11" if level == RC else "T2 get x   -> 10")
    story.play("T2 commit")
    assert story.rows() == "x=11 y=20"


@every_mode
@every_level
def test_g1c_circular_information_flow(level, settings):
    """Two transactions never see each other's writes."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 update x 11
        T2 update y 22
        T1 get y            -> 20
        T2 get x            -> 10
        T1 commit
    """)
    if level == SER:  # Each read what the other overwrote: write skew.
        story.play("T2 commit   -> 40001 read_conflict")
        assert story.rows() == "x=11 y=20"
    else:
        story.play("T2 commit")
        assert story.rows() == "x=11 y=22"


@every_mode
@every_level
def test_otv_observed_transaction_vanishes(level, settings):
    """Who saw one write of a transaction sees all of them until a newer one."""
    story = Story(level, settings).play("""
        T2 begin
        T2 get k            -> ok
        T1 begin
        T3 begin
        T1 update x 11
        T1 update y 19
        T2 update x 12      -> waits
        T1 commit
    """)
    if level == RR:
        story.play("""
            T2 ...          -> 40001 write_too_old
            T3 get x        -> 11
            T3 get y        -> 19
            T3 commit
        """)
        return
    story.play("""
        T2 ...
        T3 get x            -> 11
        T2 update y 18
        T3 get y            -> 19
        T2 commit
    """)
    if level == RC:
        story.play("""
            T3 get y        -> 18
            T3 get x        -> 12
            T3 commit
        """)
    else:
        story.play("""
            T3 get y        -> 19
            T3 get x        -> 11
            T3 commit
        """)
    assert story.rows() == "x=12 y=18"


@every_mode
@every_level
def test_pmp_predicate_many_preceders(level, settings):
    """A predicate read twice: READ COMMITTED sees the new row, a snapshot does not."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 scan a zz        -> x=10 y=20
        T2 insert z 30
        T2 commit
    """)
    story.play("T1 scan a zz -> x=10 y=20 z=30" if level == RC else "T1 scan a zz -> x=10 y=20")
    story.play("T1 commit")
    assert story.rows() == "x=10 y=20 z=30"


@every_mode
@every_level
def test_pmp_for_writes(level, settings):
    """DELETE WHERE value = 20 against an UPDATE that moves the rows' values under it."""
    story = Story(level, settings).play("""
        T2 begin
        T2 get k            -> ok
        T1 begin
        T1 add-where 10
        T2 delete-where 20  -> waits
        T1 commit
    """)
    if level == RR:
        story.play("T2 ...  -> 40001 write_too_old")
        assert story.rows() == "x=20 y=30"
    else:
        # The statement takes a new snapshot at the first row it had to wait for.
        story.play("""
            T2 ...
            T2 commit
        """)
        assert story.rows() == "y=30"


@every_mode
@every_level
def test_p4_lost_update(level, settings):
    """Both read 10 and write 11.  READ COMMITTED loses one update, as in PostgreSQL; the others refuse."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 get x            -> 10
        T2 get x            -> 10
        T1 update x 11
        T2 update x 11      -> waits
        T1 commit
    """)
    if level == RC:
        story.play("""
            T2 ...
            T2 commit
        """)
    else:
        story.play("T2 ...  -> 40001 write_too_old")
    assert story.rows() == "x=11 y=20"


@every_mode
def test_read_committed_update_sees_the_newest_row(settings):
    """UPDATE .. SET x = x + 1 from two sessions counts both (PostgreSQL chapter 13.2.1)."""
    story = Story(RC, settings).play("""
        T1 begin
        T2 begin
        T1 add x 1
        T2 add x 1          -> waits
        T1 commit
        T2 ...
        T2 commit
    """)
    assert story.rows() == "x=12 y=20"


@every_mode
@every_level
def test_g_single_read_skew(level, settings):
    """T1 must not see x before and y after T2."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 get x            -> 10
        T2 get x            -> 10
        T2 get y            -> 20
        T2 update x 12
        T2 update y 18
        T2 commit
    """)
    story.play("T1 get y -> 18" if level == RC else "T1 get y -> 20")
    story.play("T1 commit")
    assert story.rows() == "x=12 y=18"


@every_mode
@every_level
def test_g_single_with_a_write(level, settings):
    """Read skew where the reader writes on the strength of what it read."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 get x            -> 10
        T2 update x 12
        T2 update y 18
        T2 commit
    """)
    if level == RC:
        story.play("""
            T1 update y 99
            T1 commit
        """)
        assert story.rows() == "x=12 y=99"
    else:
        story.play("T1 update y 99 -> 40001 write_too_old")
        assert story.rows() == "x=12 y=18"


@every_mode
@every_level
def test_g2_item_write_skew(level, settings):
    """Both read both rows and write one each: only SERIALIZABLE refuses."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 get x y          -> [10, 20]
        T2 get x y          -> [10, 20]
        T1 update x 11
        T2 update y 21
        T1 commit
    """)
    if level == SER:
        story.play("T2 commit -> 40001 read_conflict")
        assert story.rows() == "x=11 y=20"
    else:
        story.play("T2 commit")
        assert story.rows() == "x=11 y=21"


@every_mode
@every_level
def test_g2_phantom(level, settings):
    """Both count the rows and insert one: anti-dependencies over a predicate."""
    story = Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 scan a zz        -> x=10 y=20
        T2 scan a zz        -> x=10 y=20
        T1 insert p 30
        T2 insert q 42
        T1 commit
    """)
    if level == SER:
        story.play("T2 commit -> 40001 read_conflict")
        assert story.rows() == "p=30 x=10 y=20"
    else:
        story.play("T2 commit")
        assert story.rows() == "p=30 q=42 x=10 y=20"


@every_mode
def test_g2_two_edges_and_a_reader(settings):
    """Fekete, O'Neil, O'Neil: a read-only transaction makes the anomaly visible."""
    story = Story(SER, settings).play("""
        T1 begin
        T2 begin
        T3 begin
        T1 get x y          -> [10, 20]
        T2 add y 5
        T2 commit
        T3 get x y          -> [10, 25]
        T3 commit
        T1 update x 0
        T1 commit           -> 40001 read_conflict
    """)
    assert story.rows() == "x=10 y=25"


@every_mode
@pytest.mark.parametrize("level", [RR, SER], ids=["rr", "ser"])
def test_long_fork(level, settings):
    """Two readers never see two independent writes in opposite orders (reliability 45)."""
    story = Story(level, settings).play("""
        R1 begin
        R2 begin
        T1 begin
        T2 begin
        T1 update x 11
        T2 update y 21
        T1 commit
        R1 get x            -> 11
        R1 get y            -> 20
        T2 commit
        R2 get y            -> 21
        R2 get x            -> 11
        R1 get y            -> 20
        R1 commit
        R2 commit
    """)
    assert story.rows() == "x=11 y=21"


@every_mode
@every_level
def test_share_locks_prevent_write_skew(level, settings):
    """SELECT .. FOR SHARE of what is relied on: the second writer waits, then one is a deadlock's victim."""
    Story(level, settings).play("""
        T1 begin
        T2 begin
        T1 share x          -> 10
        T2 share y          -> 20
        T1 update y 21      -> waits
        T2 update x 11      -> 40P01 deadlock
        T1 ...
        T1 commit
    """)


@every_level
def test_nowait_and_skip_locked(level):
    """A locked row: NOWAIT fails at once, SKIP LOCKED leaves it out, a plain read does not care."""
    story = Story(level).play("""
        T1 begin
        T2 begin
        T3 begin
        T1 lock x           -> 10
        T2 lock x SKIP      -> skipped
        T2 get x            -> 10
        T3 lock x NOWAIT    -> 55P03
        T2 commit
        T1 rollback
    """)
    assert story.rows() == "x=10 y=20"


@every_mode
def test_refresh_saves_a_reader_whose_reads_did_not_change(settings):
    """A timestamp that must move is no error while every read is the same at the new one."""
    story = Story(SER, settings).play("""
        T1 begin
        T1 get y            -> 20
        T2 begin
        T2 update x 11
        T2 commit
        T1 add x 1
        T1 commit
    """)
    assert story.rows() == "x=12 y=20"
    assert story.world.coordinator.counts["restarts"] == 0
    assert story.world.coordinator.counts["refreshes"] >= 1


@every_mode
def test_phantom_in_a_limited_scan(settings):
    """Only what a LIMIT really read must stay the same (reliability 18)."""
    story = Story(SER, settings, a=1, b=2, m=3)
    story.play("T1 begin")
    world, txn = story.world, story.sessions["T1"].txn
    page = txn.scan(b"a", b"zz", limit=2)
    assert page.keys == [b"a", b"b"]
    assert page.resume is not None
    story.play("""
        T2 begin
        T2 insert p 9
        T2 commit
        T1 insert q 1
        T1 commit
        T1 begin
        T1 scan a zz        -> a=1 b=2 m=3 p=9 q=1
        T2 begin
        # T2 read that r is absent, so T1 comes after it, and must have seen c.
        T2 get r            -> ok
        T2 insert c 9
        T2 commit
        T1 insert r 1
        T1 commit           -> 40001 read_conflict
    """)
    assert world.kv.newest()[b"c"] == b"9"
