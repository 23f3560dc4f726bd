"""Reading histories in all their forms, pairing, EDN, and recorded histories with known verdicts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.checkers import bank, list_append, register, sets
from sim.checkers.__main__ import main
from sim.edn import EdnError, read_forms
from sim.histories import (
    FAIL,
    INFO,
    NEVER,
    OK,
    HistoryError,
    Op,
    Recorder,
    freeze,
    pair,
    parse_history,
    read_history,
    write_history,
)

RECORDED = Path(__file__).parents[3] / "shared" / "histories"

TXN = [["append", 9, 1], ["r", 9, None]]

FORMS = {
    "array": '[{"index":0,"process":1,"type":"invoke","f":"txn","value":[["append",9,1],["r",9,null]]}]',
    "array over lines": '[\n{"index":0,"process":1,"type":"invoke",\n "f":"txn","value":[["append",9,1],["r",9,null]]}\n]\n',
    "lines": '{"index":0,"process":1,"type":"invoke","f":"txn","value":[["append",9,1],["r",9,null]]}\n\n',
    "lines with commas": '{"index":0,"process":1,"type":"invoke","f":"txn","value":[["append",9,1],["r",9,null]]},\n',
    "keywords as text": '[{":index":0,":process":1,":type":":invoke",":f":":txn",":value":[[":append",9,1],[":r",9,null]]}]',
    "object": '{"history":[{"process":1,"type":"invoke","f":"txn","value":[["append",9,1],["r",9,null]]}]}',
    "edn vector": "[{:index 0, :process 1, :type :invoke, :f :txn, :value [[:append 9 1] [:r 9 nil]]}]",
    "edn lines": "; a comment\n{:index 0 :process 1 :type :invoke :f :txn :value [[:append 9 1] [:r 9 nil]]}\n",
    "edn records": "#jepsen.history.Op{:index 0, :process 1, :type :invoke, :f :txn, :value [[:append 9 1] (:r 9 nil)]}",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str):
    assert parse_history(FORMS[form]) == [Op(0, "invoke", 1, "txn", TXN)]


@pytest.mark.parametrize(
    "text",
    ["", "[]"],
)
def test_an_empty_history(text: str):
    assert parse_history(text) == []


@pytest.mark.parametrize("text", ['{"a":1}', "[1, 2]", "{:type :invoke", '[{"type":"strange"}]', "{:a}", "[)", '"'])
def test_what_is_no_history_is_refused(text: str):
    with pytest.raises(HistoryError):
        parse_history(text)


def test_defaults():
    """Indexes count, a missing process is 0, a missing f is empty."""
    assert parse_history('{"type":"ok","value":[["r","x",null]]}\n{"type":"ok"}') == [
        Op(0, "ok", 0, "", [["r", "x", None]]),
        Op(1, "ok", 0, "", None),
    ]


def test_keys_become_hashable():
    history = parse_history('[{"type":"ok","value":[["r",[1,2],[3]]]}]')
    assert history[0].value == [["r", (1, 2), [3]]]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_frozen_values_are_hashable(value: object):
    assert hash(freeze(value)) == hash(freeze(value))


def test_a_history_can_be_written_and_read(tmp_path: Path):
    recorder = Recorder()
    recorder.invoke(0, "txn", TXN)
    recorder.ok(0, "txn", [["append", 9, 1], ["r", 9, [1]]])
    recorder.info("nemesis", "kill", ["n1"], "why")
    write_history(recorder.history, tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == recorder.history


def test_pairing():
    """Completions belong to the invocation of their process; the nemesis has no part in it."""
    recorder = Recorder()
    recorder.invoke(0, "a", 1)
    recorder.invoke(1, "b", 2)
    recorder.info("nemesis", "kill", None)
    recorder.fail(1, "b", 2)
    recorder.ok(0, "a", 10)
    recorder.invoke(0, "c", 3)
    recorder.info(0, "c", 3)
    recorder.invoke(2, "d", 4)
    recorder.invoke(2, "e", 5)
    paired = pair(recorder.history)
    told = [(t.f, t.asked, t.value, t.status, t.began, t.ended) for t in paired.transactions]
    assert told == [
        ("a", 1, 10, OK, 0, 4),
        ("b", 2, 2, FAIL, 1, 3),
        ("c", 3, 3, INFO, 5, NEVER),
        ("d", 4, 4, INFO, 7, NEVER),
        ("e", 5, 5, INFO, 8, NEVER),
    ]
    assert [(event >> 1, event & 1) for event in paired.events] == [
        (0, 0),
        (1, 0),
        (1, 1),
        (0, 1),
        (2, 0),
        (3, 0),
        (4, 0),
    ]


# -- EDN ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, value",
    [
        ("nil true false", [None, True, False]),
        ("1 -2 3N 4.5 6e2 7M", [1, -2, 3, 4.5, 600.0, 7.0]),
        (":a :b/c sym", ["a", "b/c", "sym"]),
        (r'"a\"b\n\u0041" \a \newline', ['a"b\nA', "a", "\n"]),
        ("[1 [2] (3)] #{4 5}", [[1, [2], [3]], [4, 5]]),
        ("{:a 1, [1 2] {}}", [{"a": 1, (1, 2): {}}]),
        ('#inst "2020" #_ skipped 1 #_ [2 3]', ["2020", 1]),
        ("; only a comment", []),
        ("1 ; end\n", [1]),
    ],
)
def test_edn(text: str, value: list):
    assert read_forms(text) == value


@pytest.mark.parametrize("text", ["[", "]", "(]", "{1}", '"open', "[" * 300])
def test_edn_faults(text: str):
    with pytest.raises(EdnError):
        read_forms(text)


def as_edn(value: object) -> str:
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + " ".join(map(as_edn, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_edn(key)} {as_edn(item)}" for key, item in value.items()) + "}"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return str(value)


SCALARS = st.none() | st.booleans() | st.integers() | st.text()


@given(
    st.recursive(
        SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=10
    )
)
def test_edn_says_what_was_written(value: object):
    assert read_forms(as_edn(value)) == [value]


# -- recorded histories ---------------------------------------------------------------------

VERDICTS = {
    "paper-example.json": (lambda history: list_append.check(history, "serializable"), False),
    "rw-register.json": (register.check, True),
    "bank.json": (bank.check, True),
    "bank-negative-balances.json": (bank.check, False),
    "set_full.json": (sets.check_full, False),
}


@pytest.mark.parametrize("name", VERDICTS)
def test_recorded_history(name: str):
    if not (RECORDED / name).exists():
        pytest.skip("the recorded histories are not beside this checkout")
    checker, expected = VERDICTS[name]
    assert checker(read_history(RECORDED / name)).valid is expected


def test_the_paper_example_is_explained():
    """The cycle of the paper's introduction: 8 of 255 was not seen by who came after its reader."""
    if not (RECORDED / "paper-example.json").exists():
        pytest.skip("the recorded histories are not beside this checkout")
    verdict = list_append.check(read_history(RECORDED / "paper-example.json"), "serializable")
    (explanation,) = verdict.anomalies["G-single"]
    assert sorted(explanation.transactions) == [2, 4, 6]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "h.edn"
    path.write_text(
        "{:type :ok :process 0 :f :txn :value [[:r x [1]]]}\n{:type :fail :process 1 :f :txn :value [[:append x 1]]}"
    )
    assert main(["list-append", "--consistency", "read-uncommitted", str(path)]) == 0
    assert main(["list-append", str(path)]) == 1
    assert "G1a" in capsys.readouterr().out
