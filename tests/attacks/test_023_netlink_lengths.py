# SPDX-License-Identifier: Apache-2.0
"""Attack 23 (CVE-2021-43784): a payload longer than a 16-bit attribute length must not smuggle attributes of its own."""
from __future__ import annotations

import errno
import struct

import pytest

from lamina.linux import netlink


def test_control_a_truncated_length_makes_payload_into_attributes() -> None:
    smuggled = struct.pack("=HHI", 8, 27, 1)
    payload = smuggled + bytes(0x10000 - len(smuggled))
    naive = struct.pack("=HH", (len(payload) + 4) & 0xFFFF, 3) + payload
    assert netlink.iter_attrs(naive[:12])[1] == (27, struct.pack("=I", 1))


@pytest.mark.parametrize("size", [netlink.MAX_PAYLOAD + 1, 0x10000, 0x20000])
def test_too_long_a_payload_is_refused(size: int) -> None:
    for build in (lambda: netlink.attr(3, bytes(size)), lambda: netlink.attr_str(3, "x" * size),
                  lambda: netlink.nest(3, *[netlink.attr(1, bytes(60000)) for _ in range(1 + size // 60000)])):
        with pytest.raises(OSError) as caught:
            build()
        assert caught.value.errno == errno.EMSGSIZE


def test_the_longest_payload_survives() -> None:
    assert netlink.iter_attrs(netlink.attr(3, b"x" * netlink.MAX_PAYLOAD)) == [(3, b"x" * netlink.MAX_PAYLOAD)]


def test_a_name_with_a_nul_is_refused() -> None:
    with pytest.raises(OSError):
        netlink.attr_str(3, "a\0b")
