# SPDX-License-Identifier: Apache-2.0
"""The wire format between a monitor and its clients, version 1.

A connection is a Unix stream socket: `<run_dir>/sock` of a container, `<run_dir>/execs/<exec id>.sock` of an exec, mode 0600. Both
ends check the other's user by SO_PEERCRED (root or the same user). Each direction is a sequence of frames

    u32 length of the payload, big endian, at most 65536 | u8 type | payload

Numbers are big endian, JSON is UTF-8. A longer frame, or a type that the receiver doesn't know, ends the connection; nothing is
allocated for what was merely announced. Both sides begin with HELLO; the monitor answers with the highest version that both know.

    client to monitor                                        monitor to client
    0x01 HELLO   {"version":1}                               0x81 HELLO   {"version":1,"id","exec_id","tty","open_stdin","status"}
    0x02 ATTACH  {"stdin","stdout","stderr": bool}           0x82 REPLY   {} or {"class","message","exit_code"}
    0x03 STDIN   bytes, never empty                          0x83 STDOUT  bytes (a terminal's output too)
    0x04 STDIN_CLOSE  (half-close)                           0x84 STDERR  bytes
    0x05 RESIZE  u16 rows, u16 columns                       0x85 STARTED {"pid","started_at"}
    0x06 SIGNAL  u8 number                                   0x86 ERROR   {"class","message","exit_code"}: it could not be started
    0x07 PAUSE                                               0x87 CREDIT  u32: so many bytes of STDIN were taken
    0x08 UNPAUSE                                             0x88 EXIT    u32 exit code (128+n: killed by signal n)
    0x09 RESTART {"policy"?,"resources"?,"cancel"?}          0x89 STEP    {"who","at","text"}: what was done (--explain)

- ATTACH, RESIZE, SIGNAL, PAUSE, UNPAUSE and RESTART are requests: each is answered by one REPLY, in order. STDIN and STDIN_CLOSE
  aren't. RESTART tells what the container's next restart goes by: a policy {"name","maximum"}, resources as in the OCI spec; or,
  by "cancel": true, that there shall be none, whatever the policy says.
- Any number of clients may be connected at once. Output goes to the clients that have asked for it, from then on.
- A client may send WINDOW (262144) bytes of STDIN beyond those it got CREDIT for. So neither side ever stops reading requests, and
  memory stays bounded. Bytes that nobody can take any more (the process closed its stdin) are credited and dropped.
- STARTED comes once to every client, at once if it has started already. Then EXIT, after all output that the client was to get, and
  the monitor closes. ERROR instead of STARTED or EXIT is the end as well. A container that will be started again has told EXIT to
  all who were connected at its end; who connects after that hears STARTED when it runs again.
- STEP goes to clients whose ATTACH had "explain": true, also after EXIT: they are told how everything is undone, and only then the
  monitor closes. `at`: nanoseconds of the host's monotonic clock.
- Output is lossless: when a client is more than BEHIND (1 MiB) late, the monitor stops reading the container's output until that
  client has read or is gone.
"""
from __future__ import annotations

import os
from _struct import Struct

import lamina.errors as errors
from lamina.util import fastjson

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
MAX_PAYLOAD = 65536
WINDOW = 262144
BEHIND = 1 << 20

HEADER = Struct("!IB")
SIZE = Struct("!HH")
U32 = Struct("!I")
U32_NATIVE = Struct("=I")  # of struct ucred, not of the wire

C_HELLO, C_ATTACH, C_STDIN, C_STDIN_CLOSE, C_RESIZE, C_SIGNAL, C_PAUSE, C_UNPAUSE, C_RESTART = range(0x01, 0x0A)
M_HELLO, M_REPLY, M_STDOUT, M_STDERR, M_STARTED, M_ERROR, M_CREDIT, M_EXIT, M_STEP = range(0x81, 0x8A)


class ProtocolError(errors.LaminaError):
    """The peer sent what version 1 doesn't allow; the connection is of no more use."""


class Parser:
    """Bytes as they arrive in, whole frames out. Holds at most one incomplete frame."""

    __slots__ = ("buffer",)

    def __init__(self) -> None:
        self.buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames that `data` completes, as (type, payload). Raises ProtocolError as soon as a header announces too much."""
        buffer = self.buffer
        buffer += data
        frames = []
        at, end = 0, len(buffer)
        with memoryview(buffer) as view:
            while end - at >= 5:
                length, kind = HEADER.unpack_from(view, at)
                if length > MAX_PAYLOAD:
                    raise ProtocolError(f"frame of {length} bytes, at most {MAX_PAYLOAD} are allowed")
                if end - at - 5 < length:
                    break
                frames.append((kind, bytes(view[at + 5 : at + 5 + length])))
                at += 5 + length
        del buffer[:at]
        return frames


def frame(kind: int, payload: bytes = b"") -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"frame of {len(payload)} bytes, at most {MAX_PAYLOAD} are allowed")
    return HEADER.pack(len(payload), kind) + payload


def json_frame(kind: int, value: dict[str, Any]) -> bytes:
    return frame(kind, fastjson.dumps(value).encode())


def parse_object(payload: bytes) -> dict[str, Any]:
    """A JSON object; anything else is a ProtocolError."""
    try:
        value = fastjson.loads(payload)
    except ValueError as e:
        raise ProtocolError(f"bad JSON in a frame: {e}")
    if not isinstance(value, dict):
        raise ProtocolError("a frame holds JSON that is not an object")
    return value


def describe(error: BaseException) -> dict[str, Any]:
    """An error as the payload of ERROR and REPLY. What isn't a LaminaError counts as a failure to start (exit code 125)."""
    if isinstance(error, errors.LaminaError):
        return {"class": type(error).__name__, "message": _clip(error.message), "exit_code": error.exit_code}
    text = str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}" if isinstance(error.filename, str | bytes) else error.strerror
    return {"class": "StartError", "message": _clip(text), "exit_code": 125}


def restore(value: dict[str, Any]) -> errors.LaminaError:
    """The error of an ERROR or REPLY payload, of its own class when lamina.errors has it."""
    kind = getattr(errors, str(value.get("class")), None)
    if not (isinstance(kind, type) and issubclass(kind, errors.LaminaError)):
        kind = errors.StartError
    error = kind(str(value.get("message", "")))
    code = value.get("exit_code")
    if isinstance(code, int) and not isinstance(code, bool) and 0 <= code <= 255:
        error.exit_code = code
    return error


def _clip(text: str) -> str:
    return text if len(text) <= 8192 else text[:8192] + "..."
