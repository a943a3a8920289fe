# SPDX-License-Identifier: Apache-2.0
"""Attack 30, "shocker": read a file outside one's root by guessing its handle (open_by_handle_at, CAP_DAC_READ_SEARCH)."""

from __future__ import annotations

import errno
import os
import platform
import struct
from pathlib import Path

import caged
import pytest

from lamina.linux import caps
from lamina.runtime import profile

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="call numbers are x86_64's")
NAME_TO_HANDLE_AT, OPEN_BY_HANDLE_AT, AT_FDCWD = 303, 304, -100


def shock(secret: Path, jail: Path) -> int:
    """From a chroot that doesn't hold `secret`: open it by its handle. Returns its first byte."""
    import ctypes

    handle = ctypes.create_string_buffer(struct.pack("Ii", 120, 0) + bytes(120))
    mount_id = ctypes.create_string_buffer(8)
    if (
        result := caged.syscall(NAME_TO_HANDLE_AT, AT_FDCWD, os.fsencode(secret), ctypes.addressof(handle), ctypes.addressof(mount_id), 0)
    ) < 0:
        return result
    os.chroot(jail)
    os.chdir("/")
    assert not os.path.exists(secret)
    fd = caged.syscall(OPEN_BY_HANDLE_AT, os.open("/", os.O_RDONLY), ctypes.addressof(handle), os.O_RDONLY)
    return fd if fd < 0 else os.read(fd, 1)[0]


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, Path]:
    secret, jail = tmp_path / "secret", tmp_path / "jail"
    secret.write_text("S")
    jail.mkdir()
    return secret, jail


def test_control_bare_root_reads_it(place: tuple[Path, Path]) -> None:
    assert caged.run(lambda: shock(*place), filtered=False) == ord("S")


def test_filter_refuses(place: tuple[Path, Path]) -> None:
    assert caged.run(lambda: shock(*place), filtered=True) == -errno.EPERM


def test_capability_alone_refuses_too(place: tuple[Path, Path]) -> None:
    """Second wall: docker's capabilities lack DAC_READ_SEARCH, whatever the filter says."""

    def payload() -> int:
        import ctypes

        from lamina.linux.caps import NUMBERS

        keep = sum(1 << NUMBERS[c] for c in caged.DOCKER_CAPS)
        head = struct.pack("II", 0x20080522, 0)
        low, high = keep & 0xFFFFFFFF, keep >> 32
        data = struct.pack("6I", low, low, 0, high, high, 0)
        assert ctypes.CDLL(None).capset(head, data) == 0
        return shock(*place)

    assert "CAP_DAC_READ_SEARCH" not in caged.DOCKER_CAPS and caps
    assert caged.run(payload, filtered=False) == -errno.EPERM


def test_asked_for_it_is_given(place: tuple[Path, Path]) -> None:
    assert caged.run(lambda: shock(*place), filtered=True, caps=caged.DOCKER_CAPS | {"CAP_DAC_READ_SEARCH"}) == ord("S")
    assert "CAP_DAC_READ_SEARCH" in profile.RELEVANT
