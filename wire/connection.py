"""One client's connection: bytes in, messages to the session, bytes out.

    startup --SSLRequest--> startup (TLS) --StartupMessage--> auth --ok--> ready <--> busy, copy --> closed

The connection does no I/O itself (``wire.io``) and knows no plan (``sql.api``).  ``data_received`` handles every whole
message it has at once; a session call that ends without suspending is answered in the same tick.  While one is
suspended, further messages wait in the input buffer, and reading pauses above INPUT_BYTES_MAX.

How it begins stands in ``wire.opening``, what it has to say in ``wire.output``, what COPY reads in ``wire.copyinput``.

After an error in the extended protocol everything up to Sync is skipped (chapter 55.2.3).

Compiled with mypyc; see docs/STYLE.md#compiled.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from base.eager import Done, Suspended, run_eagerly
from base.errors import InternalError, MeridianError, QueryCanceled, SqlError
from base.seams import Rng, Scheduler
from planner.exec.fast import EncodedRows
from sql.api import Call, Server, SessionApi
from wire import encode, frontend
from wire.calls import (
    BIND,
    EXECUTE,
    HEADS_MAX,
    NO_ROW,
    ONE_ROW,
    SYNC,
    SYNC_KIND,
    CallHead,
    CallShape,
    head_end,
    learn,
    number_at,
    split_values,
)
from wire.copyinput import COPY_QUEUE_BYTES_MAX, MESSAGE_BYTES_MAX
from wire.io import ConnectionIo
from wire.opening import ConnectionSettings, Opening

AUTH_MESSAGE_BYTES_MAX: Final = 8192
INPUT_BYTES_MAX: Final = 1 << 20
"""Reading pauses while this much waits to be handled."""
_LENGTH: Final = struct.Struct("!I")
COUNTS_MAX: Final = 100
"""Numbers of rows for which a call's CommandComplete is kept."""


class Connection(Opening):
    """See the module docstring."""

    def __init__(
        self,
        server: Server,
        io: ConnectionIo,
        scheduler: Scheduler,
        rng: Rng,
        settings: ConnectionSettings,
        on_bug: Callable[[BaseException], str],
    ) -> None:
        super().__init__(server, io, scheduler, rng, settings)
        self.on_bug = on_bug
        """Logs an unexpected exception and returns the id that the client is told."""
        self._notified: list[bytes] = []
        """Notifications to be sent when the session is idle."""
        self._skipping = False
        self._calls: dict[bytes, CallHead] = {}
        """By the bytes of Bind before its values."""
        self._idle_timer: Callable[[], None] | None = None
        self._closing: SessionApi | None = None
        """Session of a lost client, to close when its running statement has ended."""

    # --- events from the socket ------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Takes bytes of any size, down to one."""
        if self.state == "ready" and not self._input and not self._busy and self._copy is None:
            self._take(data)
            return
        if self.state == "closed":
            return
        self._input += data
        if not self._busy or self._copy is not None:
            self._process()
        if len(self._input) > INPUT_BYTES_MAX and not self._reading_paused and (self._busy or self._copy is not None):
            self._reading_paused = True
            self.io.pause_reading()

    def connection_lost(self) -> None:
        """The client is gone: whatever runs is interrupted, the session closes."""
        if self.state == "closed" and self.session is None:
            return
        self.state = "closed"
        self._cancel_timers()
        session, self.session = self.session, None
        if self._drain_waiter is not None:
            self._drain_waiter.fail(QueryCanceled("client connection lost"))
        if self._copy_waiter is not None:
            self._copy_waiter.fail(QueryCanceled("client connection lost"))
        if session is not None:
            if self._busy:
                self._closing = session
                if session.interrupt is not None:
                    session.cancel()
            else:
                self._close_session(session)

    def shut_down(self, also_busy: bool = False) -> None:
        """The node drains: idle clients are told and closed; busy ones after their transaction, or now if asked."""
        session = self.session
        is_idle = not self._busy and (session is None or session.transaction_status == "I")
        if is_idle or also_busy:
            self._fatal(SqlError("terminating connection due to administrator command", sqlstate="57P01"))

    # --- the loop over messages ------------------------------------------------

    def _process(self) -> None:
        try:
            while self.state != "closed" and (not self._busy or self._reads_copy()):
                if self._copy is not None and self._take_copy_data():
                    continue
                if not (self._startup_packet() if self.state == "startup" else self._next_message()):
                    break
        except MeridianError as error:
            self._fatal(error)
        except Exception as bug:
            self._fatal(self._internal(bug))
        if (
            self._reading_paused
            and len(self._input) <= INPUT_BYTES_MAX // 2
            and self._copy_bytes <= COPY_QUEUE_BYTES_MAX // 2
        ):
            self._reading_paused = False
            self.io.resume_reading()

    def _take(self, data: bytes) -> None:
        """Handles the whole messages of a chunk where nothing waits before it: the usual case, without a copy."""
        at, size = 0, len(data)
        dispatch, length_of = self._dispatch, _LENGTH.unpack_from
        try:
            while size - at >= 5:
                (length,) = length_of(data, at + 1)
                end = at + 1 + length
                if end > size or length < 4:
                    break
                kind = data[at]
                called = self._call(data, at) if kind == BIND else 0
                if called:
                    at = called
                else:
                    body = data[at + 5 : end]
                    at = end
                    dispatch(kind, body)
                if self._busy or self._copy is not None or self.state != "ready":
                    break
        except MeridianError as error:
            self._fatal(error)
        except Exception as bug:
            self._fatal(self._internal(bug))
        if at < size and self.state != "closed":
            self._input += data[at:]
            if not self._busy or self._copy is not None:
                self._process()

    def _next_message(self) -> bool:
        """Handles one whole message; False if there is none."""
        buffer = self._input
        if len(buffer) < 5:
            return False
        length = int.from_bytes(buffer[1:5], "big")
        limit = MESSAGE_BYTES_MAX if self.state == "ready" else AUTH_MESSAGE_BYTES_MAX
        if length < 4 or length > limit:
            raise frontend.violation(f"invalid message length {length}" if length < 4 else "message is too long")
        if len(buffer) < length + 1:
            return False
        kind = buffer[0]
        body = bytes(buffer[5 : length + 1])
        del buffer[: length + 1]
        if self.state == "auth":
            self._auth_message(kind, body)
        elif self._copy is not None:
            self._copy_message(kind, body)
        else:
            self._dispatch(kind, body)
        return True

    def _dispatch(self, kind: int, body: bytes) -> None:
        if self._skipping and kind not in b"SX":
            return
        handler = _HANDLERS.get(kind)
        if handler is None:
            raise frontend.violation(f"invalid frontend message type {kind}")
        session = self.session
        assert session is not None
        if self._idle_timer is not None:
            self._idle_timer()
            self._idle_timer = None
        try:
            pending = handler(self, session, body)
        except Exception as problem:
            self._failed(kind, problem)
            return
        if pending is not None:
            self._drive(kind, pending)

    def _failed(self, kind: int, problem: Exception) -> None:
        """A handler raised."""
        if isinstance(problem, MeridianError):
            error = problem
        elif isinstance(problem, RecursionError):
            error = SqlError("statement is too complex", sqlstate="54001", hint="stack depth limit exceeded")
        else:
            error = self._internal(problem)
        self._statement_failed(kind, error)

    # --- calls: Bind, Execute and Sync together ----------------------------------

    def _call(self, data: bytes, at: int) -> int:
        """Takes the call of a known statement that begins at ``at``; returns where to go on, 0 if it is none."""
        session = self.session
        values_at = head_end(data, at)
        if not values_at or self._skipping or session is None:
            return 0
        head = self._calls.get(data[at + 6 : values_at])
        if head is not None:
            values = split_values(data, values_at, head.count)
            if values is None:
                return 0
            tail_at: int = values.pop()
            shape = head.find(data, tail_at, at + 1 + number_at(data, at + 1))
            if shape is not None and session.is_current(shape.call):
                return self._run_call(session, shape, values, tail_at)
        self._learn_call(session, data, at, values_at)
        return 0

    def _learn_call(self, session: SessionApi, data: bytes, at: int, values_at: int) -> None:
        """Remembers the shape of a call that is about to take the usual way."""
        try:
            learned = learn(data, at, session)
        except MeridianError:
            return  # The usual way meets it again and tells of it.
        if learned is None:
            return
        if len(self._calls) >= HEADS_MAX:
            self._calls.clear()
        self._calls.setdefault(data[at + 6 : values_at], CallHead(learned[0])).add(learned[1])

    def _run_call(self, session: SessionApi, shape: CallShape, values: list[Any], tail_at: int) -> int:
        """Answers a call.  What fails or waits goes on, with its Sync, as if the messages had come one by one."""
        call = shape.call
        end = tail_at + len(shape.tail)
        if self._idle_timer is not None:
            self._idle_timer()
            self._idle_timer = None
        if call.is_point and self._answer(session, call, values, shape.opening):
            return end
        try:
            rows: Any = session.run_call(call, values)
        except Exception as problem:
            self._put(shape.opening)
            self._failed(EXECUTE, problem)
            return end - len(SYNC)
        if rows is None:
            return self._run_usually(session, shape, values, end)
        if rows.__class__ is EncodedRows:
            self._finish_call(session, call, shape.opening, rows)
            return end
        self._put(shape.opening)
        self._drive(EXECUTE, rows)
        return end - len(SYNC)

    def _run_usually(self, session: SessionApi, shape: CallShape, values: list[Any], end: int) -> int:
        kind = BIND
        try:
            session.bind_call(shape.call, values)
            self._put(shape.opening)
            kind = EXECUTE
            pending = session.execute("", 0, self)
        except Exception as problem:
            self._failed(kind, problem)
            return end - len(SYNC)
        if pending is not None:
            self._drive(kind, pending)
            return end - len(SYNC)
        self._dispatch(SYNC_KIND, b"")
        return end

    def _finish_call(self, session: SessionApi, call: Call, opening: bytes, rows: EncodedRows) -> None:
        """Sends all of the answer of a call that was run at once; its Sync has nothing else to do."""
        count = rows.count
        complete = call.completions.get(count)
        if complete is None:
            complete = encode.command_complete(f"{call.tag}{count}" if call.counts else call.tag)
            if len(call.completions) < COUNTS_MAX:
                call.completions[count] = complete
        if self._out or self._notified:
            self._put(b"".join((opening, rows.data, complete)))
            self._ready(session)
            return
        self._send_answer(session, b"".join((opening, rows.data, complete, encode.READY[session.transaction_status])))

    def _answer(self, session: SessionApi, call: Call, values: list[Any], opening: bytes) -> bool:
        """Answers a SELECT of one key in one piece; False if it must take the usual way."""
        if self._out or self._notified:
            return False
        row = session.answer(call, values)
        if row is None:
            return False
        self._send_answer(session, opening + row + (ONE_ROW if row else NO_ROW))
        return True

    def _send_answer(self, session: SessionApi, data: bytes) -> None:
        """Sends all of an answer, ReadyForQuery included."""
        self.io.write(data)
        self._sent += len(data)
        seconds = session.idle_timeout_seconds()
        if seconds:
            self._idle_timer = self.scheduler.call_later(seconds, self._idle_timeout)

    def _drive(self, kind: int, pending: Awaitable[Any]) -> None:
        """Runs a handler's coroutine as far as it goes now; the rest goes on as a task."""
        coroutine = _finish(self, kind, pending)
        waiting = run_eagerly(coroutine)
        if isinstance(waiting, Done):
            return
        suspended = Suspended(coroutine, waiting)
        self._busy = True
        session = self.session
        if session is not None:
            session.interrupt = suspended.interrupt
            session.suspended()
        self.scheduler.go_on(suspended, "statement", self._resumed)

    def _resumed(self, error: BaseException | None) -> None:
        """What waited is over: what came meanwhile is next."""
        self._busy = False
        if error is not None:
            return
        session = self.session
        if session is None:
            closing, self._closing = self._closing, None
            if closing is not None:
                closing.interrupt = None
                self._close_session(closing)
            return
        session.interrupt = None
        self._process()

    def _close_session(self, session: SessionApi) -> None:
        pending = session.close()
        if pending is not None:
            self.scheduler.spawn(_awaited(pending), "close session")

    # --- handlers of the ready state -------------------------------------------

    def _on_query(self, session: SessionApi, body: bytes) -> Any:
        sql = frontend.parse_query(body)
        found = session.known_query(sql)
        if found is None:
            pending: Any = session.simple_query(sql, self)
        else:
            call, params = found
            if not call.opening and call.columns is not None:
                call.opening = encode.row_description(call.columns, ())
            if call.is_point and self._answer(session, call, params, call.opening):
                return None
            pending = session.run_call(call, params)
            if pending.__class__ is EncodedRows:
                self._finish_call(session, call, call.opening, pending)
                return None
            if pending is None:
                pending = session.run_query(call, params, sql)
        if pending is None:
            self._ready(session)
        return pending

    def _on_parse(self, session: SessionApi, body: bytes) -> Any:
        parsed = frontend.parse_parse(body)
        pending = session.parse(parsed.name, parsed.sql, parsed.param_oids)
        if pending is None:
            self._put(encode.PARSE_COMPLETE)
        return pending

    def _on_bind(self, session: SessionApi, body: bytes) -> Any:
        bound = frontend.parse_bind(body)
        pending = session.bind(bound.portal, bound.statement, bound.param_formats, bound.params, bound.result_formats)
        if pending is None:
            self._put(encode.BIND_COMPLETE)
        return pending

    def _on_describe(self, session: SessionApi, body: bytes) -> Any:
        kind, name = frontend.parse_target(body)
        if kind == "S":
            prepared: Any = session.describe_statement(name)
            self._put(encode.parameter_description([t.oid for t in prepared.param_types]))
            self.describe(prepared.columns)
        else:
            portal: Any = session.describe_portal(name)
            self.describe(portal.columns, portal.formats)
        return None

    def _on_execute(self, session: SessionApi, body: bytes) -> Any:
        name, max_rows = frontend.parse_execute(body)
        return session.execute(name, max_rows, self)

    def _on_close(self, session: SessionApi, body: bytes) -> Any:
        kind, name = frontend.parse_target(body)
        if kind == "S":
            session.close_statement(name)
        else:
            session.close_portal(name)
        self._put(encode.CLOSE_COMPLETE)
        return None

    def _on_sync(self, session: SessionApi, body: bytes) -> Any:
        self._skipping = False
        pending = session.sync()
        if pending is None:
            self._ready(session)
        return pending

    def _on_flush(self, session: SessionApi, body: bytes) -> Any:
        self._flush()
        return None

    def _on_terminate(self, session: SessionApi, body: bytes) -> Any:
        self._close()
        return None

    def _on_function_call(self, session: SessionApi, body: bytes) -> Any:
        raise SqlError(
            "the function call protocol is not supported", sqlstate="0A000", hint="Use SELECT function(...)."
        )

    def _on_late_copy(self, session: SessionApi, body: bytes) -> Any:
        """CopyData, CopyDone and CopyFail of a COPY that already failed are dropped (chapter 55.2.6)."""
        return

    def _finished(self, kind: int, session: SessionApi) -> None:
        """A suspended or coroutine handler ended well: what its message owes the client."""
        if kind == 66:
            self._put(encode.BIND_COMPLETE)
        elif kind == 80:
            self._put(encode.PARSE_COMPLETE)
        elif kind in (81, 83):
            self._ready(session)

    def _ready(self, session: SessionApi) -> None:
        out = self._out
        status = session.transaction_status
        if self._notified and status == "I":
            out.extend(self._notified)
            self._notified.clear()
        out.append(encode.READY[status])
        data = b"".join(out)
        out.clear()
        self._out_bytes = 0
        self._send_answer(session, data)

    def _idle_timeout(self) -> None:
        self._idle_timer = None
        if self._busy or self.session is None:
            return
        if self.session.transaction_status == "I":
            self._fatal(SqlError("terminating connection due to idle-session timeout", sqlstate="57P05"))
        else:
            self._fatal(SqlError("terminating connection due to idle-in-transaction timeout", sqlstate="25P03"))

    # --- notifications ---------------------------------------------------------

    def parameter_status(self, name: str, value: str) -> None:
        if self.session is not None:
            self._put(encode.parameter_status(name, value))

    def notification(self, pid: int, channel: str, payload: str) -> None:
        """Told when the session is idle: after the answer to what it is doing, outside of a transaction."""
        if not self._notified:
            self.scheduler.call_later(0, self._send_notifications)
        self._notified.append(encode.notification(pid, channel, payload))

    def _send_notifications(self) -> None:
        if not self._busy and self.session is not None and self.session.transaction_status == "I":
            for notified in self._notified:
                self._put(notified)
            self._notified.clear()
            self._flush()

    # --- errors ----------------------------------------------------------------

    def _internal(self, bug: BaseException) -> MeridianError:
        return InternalError(
            f"internal error (reference {self.on_bug(bug)})",
            hint="The server's log has the details under this reference.",
        )

    def _statement_failed(self, kind: int, error: MeridianError) -> None:
        """Tells the client, lets the session abort what it must, and skips to Sync in the extended protocol."""
        session = self.session
        if session is not None:
            session.explain(error)
        self._put(encode.error_response(error))
        if session is None:
            return
        is_simple = kind == 81
        if not is_simple and kind != 83:
            self._skipping = True
        pending = session.fail(error)
        if pending is not None:
            self._drive_failure(pending, kind)
        elif is_simple or kind == 83:
            self._ready(session)

    def _drive_failure(self, pending: Awaitable[Any], kind: int) -> None:
        self._drive(kind if kind in (81, 83) else 0, pending)

    def _fatal(self, error: MeridianError) -> None:
        """Ends the connection with an error message."""
        if self.state == "closed":
            return
        self._put(encode.error_response(error, "FATAL"))
        self._close()

    def _close(self) -> None:
        self._flush()
        self._input.clear()
        self.io.close()
        self.connection_lost()

    def _cancel_timers(self) -> None:
        self._cancel_timer()
        if self._idle_timer is not None:
            self._idle_timer()
            self._idle_timer = None


async def _finish(connection: Connection, kind: int, pending: Awaitable[Any]) -> None:
    """Awaits a handler's work and answers for it, whatever happens."""
    try:
        await pending
    except MeridianError as error:
        failure: MeridianError = error
    except RecursionError:
        failure = SqlError("statement is too complex", sqlstate="54001", hint="stack depth limit exceeded")
    except Exception as bug:
        failure = connection._internal(bug)
    else:
        if connection.session is not None:
            connection._finished(kind, connection.session)
        return
    connection.end_copy()
    await _fail(connection, kind, failure)


async def _fail(connection: Connection, kind: int, error: MeridianError) -> None:
    session = connection.session
    if session is not None:
        session.explain(error)
    connection._put(encode.error_response(error))
    if session is None:
        return
    if kind not in (81, 83):
        connection._skipping = True
    try:
        pending = session.fail(error)
        if pending is not None:
            await pending
    except Exception as bug:
        connection._fatal(connection._internal(bug))
        return
    if kind in (81, 83):
        connection._ready(session)


async def _awaited(pending: Awaitable[Any]) -> None:
    await pending


Handler = Callable[[Connection, SessionApi, bytes], "Coroutine[Any, Any, Any] | None"]
_HANDLERS: Final[dict[int, Handler]] = {
    ord("Q"): Connection._on_query,
    ord("P"): Connection._on_parse,
    ord("B"): Connection._on_bind,
    ord("D"): Connection._on_describe,
    ord("E"): Connection._on_execute,
    ord("C"): Connection._on_close,
    ord("S"): Connection._on_sync,
    ord("H"): Connection._on_flush,
    ord("X"): Connection._on_terminate,
    ord("F"): Connection._on_function_call,
    ord("d"): Connection._on_late_copy,
    ord("c"): Connection._on_late_copy,
    ord("f"): Connection._on_late_copy,
}
