# SPDX-License-Identifier: Apache-2.0
"""Digests: their grammar, and hashing while reading or writing [hot].

A digest names a file, so it is checked before any use (attack 47): `sha256:` and 64 lower-case hex digits, nothing else. sha512 is
legal in OCI, but nothing that we keep is addressed by it; it's refused in so many words instead of as a typing error.
"""
from __future__ import annotations

from lamina.errors import ArchiveError, InvalidArgument
from lamina.util.ids import HEX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Hash(Protocol):
        def update(self, data: Any, /) -> None: ...
        def hexdigest(self) -> str: ...

    class Readable(Protocol):
        def read(self, size: int = -1, /) -> bytes: ...

PREFIX = "sha256:"
EMPTY = PREFIX + "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_bulk: Callable[[], Hash] | None = None


def check_digest(text: str) -> str:
    """`text` itself if it is a digest that we use. InvalidArgument otherwise; for a digest found in a document say where in the caller."""
    if text.startswith(PREFIX) and len(text) == 71 and HEX.issuperset(text[7:]):
        return text
    algorithm, colon, hexes = text.partition(":")
    if colon and algorithm in ("sha512", "sha384", "blake3"):
        raise NotUsable(text, "unsupported digest algorithm " + algorithm + ": only sha256 is used here")
    if not colon or not algorithm:
        raise NotUsable(text, "invalid checksum digest format")
    if algorithm != "sha256":
        raise NotUsable(text, "unsupported digest algorithm")
    if len(hexes) != 64:
        raise NotUsable(text, "invalid checksum digest length")
    raise NotUsable(text, "invalid checksum digest format")


class NotUsable(InvalidArgument):
    """A digest that isn't one, or not one of ours."""

    def __init__(self, text: str, why: str) -> None:
        super().__init__(f"invalid digest {text[:160]!r}: {why}")


def hex_of(digest: str) -> str:
    """The file name of a digest, checked."""
    return check_digest(digest)[7:]


def new_sha256() -> Hash:
    """A hash object for bulk data: OpenSSL's, which uses the CPU's SHA instructions, where Python has it."""
    global _bulk
    if _bulk is None:
        try:
            from _hashlib import openssl_sha256

            _bulk = openssl_sha256
        except ImportError:
            _bulk = _small
    return _bulk()


def _small() -> Hash:
    """Python's own implementation: slower on bulk data, but no OpenSSL to load."""
    hasher: Hash
    try:
        from _sha256 import sha256  # 3.11

        hasher = sha256()
    except ImportError:
        from _sha2 import sha256 as sha2  # type: ignore[import-not-found, unused-ignore]  # since 3.12

        hasher = sha2()
    return hasher


def sha256_hex(data: bytes | bytearray | memoryview) -> str:
    """64 hex digits, without the algorithm."""
    hasher = _small() if len(data) < 65536 else new_sha256()
    hasher.update(data)
    return hasher.hexdigest()


def digest_of(data: bytes | bytearray | memoryview) -> str:
    return PREFIX + sha256_hex(data)


class HashingWriter:
    """Passes bytes on to `write` and knows digest and size of what went through."""

    __slots__ = ("_write", "_hash", "size")

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._hash = new_sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self._write(data)
        self.size += len(data)
        return len(data)

    @property
    def digest(self) -> str:
        return PREFIX + self._hash.hexdigest()


class VerifyingReader:
    """Reads from `source` and believes nothing before the end: the last read raises ArchiveError if digest or size are wrong.

    More bytes than `size` are an error as soon as they come, so that a liar can't fill the disk.
    """

    __slots__ = ("_source", "_hash", "_digest", "_size", "_what", "seen", "verified")

    def __init__(self, source: Readable, digest: str | None, size: int | None = None, what: str = "blob") -> None:
        self._source = source
        self._hash = new_sha256()
        self._digest = None if digest is None else check_digest(digest)
        self._size = size
        self._what = what
        self.seen = 0
        self.verified = False

    @property
    def digest(self) -> str:
        """Of what was read so far."""
        return PREFIX + self._hash.hexdigest()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        if data:
            self._hash.update(data)
            self.seen += len(data)
            if self._size is not None and self.seen > self._size:
                raise ArchiveError(f"{self._what} {self._digest or ''} is longer than the {self._size} bytes it should have")
        if size != 0 and (not data or size < 0):
            self._finish()
        return data

    def drain(self) -> None:
        """Reads to the end and verifies, whatever the consumer left."""
        while self.read(1 << 20):
            pass

    def _finish(self) -> None:
        if self._size is not None and self.seen != self._size:
            raise ArchiveError(f"{self._what} {self._digest or ''} has {self.seen} bytes instead of {self._size}")
        if self._digest is not None and self.digest != self._digest:
            raise ArchiveError(f"{self._what} has digest {self.digest} instead of {self._digest}")
        self.verified = True
