# SPDX-License-Identifier: Apache-2.0
"""Names: docker's normal forms and error texts (recorded from dockerd 20.10), and properties that hold for every name."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.errors import InvalidArgument
from lamina.spec.reference import familiar_name, parse, parse_repository

A64 = "a" * 64
GOOD = {
    "ubuntu": ("docker.io/library/ubuntu", "ubuntu"),
    "ubuntu:22.04": ("docker.io/library/ubuntu:22.04", "ubuntu:22.04"),
    "root/ubuntu:14.04": ("docker.io/root/ubuntu:14.04", "root/ubuntu:14.04"),
    "index.docker.io/foo": ("docker.io/library/foo", "foo"),
    "docker.io/foo": ("docker.io/library/foo", "foo"),
    "docker.io/library/foo": ("docker.io/library/foo", "foo"),
    "a_b": ("docker.io/library/a_b", "a_b"),
    "a__b": ("docker.io/library/a__b", "a__b"),
    "a---b": ("docker.io/library/a---b", "a---b"),
    "localhost:5000/x": ("localhost:5000/x", "localhost:5000/x"),
    "localhost/x": ("localhost/x", "localhost/x"),
    "[::1]:80/x": ("[::1]:80/x", "[::1]:80/x"),
    "quay.io/a/b:c": ("quay.io/a/b:c", "quay.io/a/b:c"),
    "foo:tag@sha256:" + A64: ("docker.io/library/foo:tag@sha256:" + A64, "foo:tag@sha256:" + A64),
    "library/localhost/x": ("docker.io/library/localhost/x", "library/localhost/x"),
}
FORMAT, CASE = "invalid reference format", "invalid reference format: repository name ({}) must be lowercase"
BAD = {
    "": FORMAT,
    "a:": FORMAT,
    "a@b": FORMAT,
    ":x": FORMAT,
    "a:b/c": FORMAT,
    "a//b": FORMAT,
    "a___b": FORMAT,
    "a.-b": FORMAT,
    "-a": FORMAT,
    "a/": FORMAT,
    "a b": FORMAT,
    "a\n": FORMAT,
    "host:80a/x": FORMAT,
    "foo:-a": FORMAT,
    "a:" + "t" * 129: FORMAT,
    "\xe9": FORMAT,
    "..": FORMAT,
    "a/../b": FORMAT,
    "%2f": FORMAT,
    "\u0430": FORMAT,
    "a\0": FORMAT,
    "localhost/A": CASE.format("A"),
    "NoSuch": CASE.format("library/NoSuch"),
    "a/B": CASE.format("a/B"),
    "x" * 300: "repository name must not be more than 255 characters",
    A64: f"invalid repository name ({A64}), cannot specify 64-byte hexadecimal strings",
    "foo@sha256:" + "a" * 63: "invalid checksum digest length",
    "foo@md5:" + "a" * 32: "unsupported digest algorithm",
    "foo@sha256:" + "A" * 64: "invalid checksum digest format",
    "foo@../../x:" + "a" * 64: FORMAT,
}


@pytest.mark.parametrize("text", GOOD)
def test_normal_forms(text: str) -> None:
    full, familiar = GOOD[text]
    assert (parse(text).full(), parse(text).familiar()) == (full, familiar)


@pytest.mark.parametrize("text", BAD, ids=lambda t: repr(t)[:40])
def test_texts_of_errors(text: str) -> None:
    with pytest.raises(InvalidArgument) as error:
        parse(text)
    assert error.value.message == BAD[text]


def test_a_digest_is_no_target() -> None:
    with pytest.raises(InvalidArgument, match="refusing to create a tag with a digest reference"):
        parse_repository("foo@sha256:" + A64)


def test_default_tag_only_where_nothing_is_said() -> None:
    assert parse("a").with_default_tag().tag == "latest"
    assert parse("a:b").with_default_tag().tag == "b"
    assert parse("a@sha256:" + A64).with_default_tag().tag == ""


component = st.from_regex(r"[a-z0-9]{1,6}((\.|_|__|-{1,3})[a-z0-9]{1,4}){0,2}", fullmatch=True)
domain = st.sampled_from(["", "localhost/", "quay.io/", "a.b:5000/", "[fe80::1]:443/", "docker.io/", "index.docker.io/", "HOST/"])
names = st.builds(
    lambda d, parts, tag: d + "/".join(parts) + tag,
    domain,
    st.lists(component, min_size=1, max_size=4),
    st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)),
)


@given(names)
def test_every_good_name_reads_back(text: str) -> None:
    first = text.partition("/")[0]
    if re.fullmatch("[0-9a-f]{64}", text) or ("." in first and "_" in first):
        return  # an id; a host name that is none
    ref = parse(text)
    assert parse(ref.familiar()) == ref
    assert parse(ref.full()) == ref
    assert parse(ref.familiar()).familiar() == ref.familiar()
    assert parse(familiar_name(ref.name)).name == ref.name


@given(st.text(max_size=40) | st.text("ab/:@._-A[]", max_size=20))
def test_any_text_is_a_clean_name_or_refused(text: str) -> None:
    try:
        ref = parse(text)
    except InvalidArgument as error:
        assert error.message
        return
    assert re.fullmatch(r"([a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)*", ref.path)
    assert re.fullmatch(r"[A-Za-z0-9.\-]+(:[0-9]+)?|\[[0-9A-Fa-f:]+\](:[0-9]+)?", ref.domain)
    assert ".." not in ref.full() and parse(ref.full()) == ref
