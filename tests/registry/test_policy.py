# SPDX-License-Identifier: Apache-2.0
"""Who is told what: origins, challenges, settings. Pure parts, by their edge cases."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.registry import challenge, origin, settings
from lamina.registry.origin import Origin


@pytest.mark.parametrize(("url", "expected"), [
    ("https://a.example", Origin("https", "a.example", 443)),
    ("HTTPS://A.Example.:443/v2/", Origin("https", "a.example", 443)),
    ("http://a.example:8080/x?y", Origin("http", "a.example", 8080)),
    ("https://[::1]:5000", Origin("https", "::1", 5000)),
])
def test_origins(url: str, expected: Origin) -> None:
    assert origin.parse(url) == expected


@pytest.mark.parametrize("url", [
    "", "/v2/", "//a.example/", "ftp://a", "file:///etc/passwd", "https://", "https://me:secret@a.example", "https://a.example\\@b",
    "https://a b", "https://a\n", "https://a:99999", "https://a:x", "https://\u0430.example"])
def test_urls_that_are_not_followed(url: str) -> None:
    with pytest.raises(InvalidArgument):
        origin.parse(url)


@pytest.mark.parametrize("host", ["localhost", "x.localhost", "127.0.0.1", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "::1",
                                  "0.0.0.0", "169.254.169.254", "fe80::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254"])
def test_local_hosts_in_every_spelling(host: str) -> None:
    assert origin.is_local_host(host)


@pytest.mark.parametrize("host", ["a.example", "10.0.0.1", "192.168.1.1", "8.8.8.8", "2001:db8::1", "localhost.example"])
def test_hosts_that_are_elsewhere(host: str) -> None:
    assert not origin.is_local_host(host)


def test_redirects_lead_neither_to_less_nor_here() -> None:
    far, http, here = origin.parse("https://a.example"), origin.parse("http://a.example"), origin.parse("https://127.0.0.1")
    assert not origin.may_follow(far, origin.parse("https://b.example"))
    assert "http" in origin.may_follow(far, http)
    assert "this machine" in origin.may_follow(far, here)
    assert not origin.may_follow(here, here)


def test_token_servers() -> None:
    far, http, meta = origin.parse("https://a.example"), origin.parse("http://t.example"), origin.parse("https://169.254.169.254")
    assert not origin.may_ask_for_token(far, origin.parse("https://t.example"), insecure=False)
    assert "https" in origin.may_ask_for_token(far, http, insecure=False)
    assert not origin.may_ask_for_token(far, http, insecure=True)
    assert "this machine" in origin.may_ask_for_token(far, meta, insecure=True)


@pytest.mark.parametrize(("line", "expected"), [
    ('Bearer realm="https://t/x",service="s",scope="repository:a:pull,push"',
     [("bearer", {"realm": "https://t/x", "service": "s", "scope": "repository:a:pull,push"})]),
    ('Basic realm="a \\"b\\"", Bearer realm=x', [("basic", {"realm": 'a "b"'}), ("bearer", {"realm": "x"})]),
    ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
    ("BEARER Realm = x , SERVICE=y", [("bearer", {"realm": "x", "service": "y"})]),
    ('Bearer realm="never ends', [("bearer", {})]),
    ('Bearer realm=a,realm=b', [("bearer", {"realm": "a"})]),
    ("", []), (",,", []), ("=x", []), ("B" * 20000, []),
])
def test_challenges(line: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(found.scheme, found.params) for found in challenge.parse([line])] == expected


@given(st.lists(st.text(), max_size=3))
def test_challenges_never_fail(lines: list[str]) -> None:
    for found in challenge.parse(lines):
        assert found.scheme == found.scheme.lower()


def test_names_without_a_host() -> None:
    plain = settings.Settings()
    assert [ref.full() for ref in plain.candidates("ubuntu")] == ["docker.io/library/ubuntu"]
    assert [ref.full() for ref in plain.candidates("a.example/x:1")] == ["a.example/x:1"]
    other = settings.from_toml({"registries": {
        "search": ["a.example", "docker.io"], "short-names": {"tools": "b.example/team/tools"}}}, "f")
    assert [ref.full() for ref in other.candidates("x/y:1")] == ["a.example/x/y:1", "docker.io/x/y:1"]
    assert [ref.full() for ref in other.candidates("tools:2")] == ["b.example/team/tools:2"]
    assert [ref.full() for ref in other.candidates("localhost/tools")] == ["localhost/tools"]
    own = settings.from_toml({"registries": {"default": "a.example:5000"}}, "f")
    assert [ref.full() for ref in own.candidates("ubuntu")] == ["a.example:5000/ubuntu"]


def test_endpoints_in_order() -> None:
    plain = settings.Settings()
    assert [place.url for place, _ in settings.endpoints(plain, "docker.io")] == ["https://registry-1.docker.io"]
    assert [place.url for place, _ in settings.endpoints(plain, "localhost:5000")] == ["https://localhost:5000", "http://localhost:5000"]
    mirrored = settings.from_toml({"registries": {"host": {"docker.io": {"mirrors": ["https://m.example"]}}}}, "f")
    assert [place.url for place, _ in settings.endpoints(mirrored, "docker.io")] == ["https://m.example", "https://registry-1.docker.io"]


@pytest.mark.parametrize(("table", "key"), [
    ({"defualt": "x"}, "registries.defualt"), ({"default": "docker"}, "registries.default"), ({"search": "docker.io"}, "registries.search"),
    ({"parallel": 0}, "registries.parallel"), ({"parallel": True}, "registries.parallel"), ({"short-names": {"a": "b"}}, "short-names.a"),
    ({"host": {"a.example": {"insecure": "yes"}}}, "insecure"), ({"host": {"a.example": {"ca": "relative.pem"}}}, "ca"),
    ({"host": {"a.example": {"client-cert": "/x"}}}, "client-cert and client-key"), ({"host": {"a.example": {"mirrors": ["m"]}}}, "URL"),
    ({"host": {"a.example": {"tls": False}}}, "tls"),
])
def test_settings_that_are_wrong_say_where(table: dict[str, object], key: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings.from_toml({"registries": table}, "/etc/lamina/lamina.toml")
    assert key in str(caught.value)
