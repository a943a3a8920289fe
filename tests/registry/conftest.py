# SPDX-License-Identifier: Apache-2.0
"""A CA with a certificate for 127.0.0.1, and clients that trust it and never sleep."""
from __future__ import annotations

import gc
import subprocess
from collections.abc import Callable, Iterator

import pytest

from lamina.registry.auth import Source
from lamina.registry.client import Registry
from lamina.registry.settings import Host, Settings


@pytest.fixture(autouse=True)
def connections_end() -> Iterator[None]:
    """Clients' connections are closed with the test that made them, not while another one counts descriptors."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, str]:
    """(CA, certificate, key): files of a CA made for this run, and of a server at 127.0.0.1 and localhost."""
    base = tmp_path_factory.mktemp("tls")

    def openssl(*args: str) -> None:
        subprocess.run(["openssl", *args], cwd=base, check=True, capture_output=True)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=test CA",
            "-keyout", "ca.key", "-out", "ca.pem")
    (base / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry-1.docker.io\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=127.0.0.1", "-keyout", "key.pem",
            "-out", "csr.pem")
    openssl("x509", "-req", "-in", "csr.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext",
            "-out", "cert.pem")
    return str(base / "ca.pem"), str(base / "cert.pem"), str(base / "key.pem")


class Waits(list[tuple[float, str]]):
    def __call__(self, seconds: float, why: str) -> None:
        self.append((seconds, why))


@pytest.fixture
def waits() -> Waits:
    """What a client would have slept for, and why."""
    return Waits()


@pytest.fixture
def client(waits: Waits) -> Callable[..., Registry]:
    """client(*hosts, source=...) is a Registry with these Host settings; certificates of the machine don't count."""

    def make(*hosts: Host, source: Source | None = None, **settings: object) -> Registry:
        named = {host.name: host for host in hosts}
        return Registry(Settings(hosts=named, certs_d=(), **settings), source, wait=waits)  # type: ignore[arg-type]

    return make


