# SPDX-License-Identifier: Apache-2.0
"""`pull`, and `run` of what isn't here, by the command line against our own registry."""
from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lamina.util.sizes import human_size
from tests.conftest import Lamina, busybox_tree, make_tar

from .published import CONFIG, LAYER, config_of, manifest_of, publish, publish_index
from .registry_server import INDEX, MANIFEST, RegistryServer, sha

BASE = make_tar({"etc": None, "etc/base": b"below"})
NOISE = b"".join(sha(b"%d" % number).encode() for number in range(60_000))  # 4 MB that gzip halves
BIG = make_tar({"big": NOISE})


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with RegistryServer() as made:
        yield made


def rows(lamina: Lamina, table: str) -> int:
    with sqlite3.connect(f"file:{lamina.root}/lamina.db?mode=ro", uri=True) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def sound(lamina: Lamina) -> None:
    assert lamina("system", "check", "--full").out == "no problems found"


def layer_lines(text: str, digest: str) -> list[str]:
    return [line.split(": ")[1] for line in text.splitlines() if line.startswith(digest[7:19] + ": ")]


def test_lines_as_dockers(lamina: Lamina, server: RegistryServer) -> None:
    entry = publish(server, "team/app", "latest", [BASE, BIG])
    ref = f"{server.host}/team/app"
    digests = [layer["digest"] for layer in json.loads(server.manifests["team/app", "latest"][0])["layers"]]
    done = lamina("pull", ref).check()
    lines = done.stdout.splitlines()
    assert lines[:2] == ["Using default tag: latest", "latest: Pulling from team/app"]
    assert lines[-3:] == [f"Digest: {entry['digest']}", f"Status: Downloaded newer image for {ref}:latest", f"{ref}:latest"]
    for digest in digests:
        assert layer_lines(done.stdout, digest) == ["Pulling fs layer", "Verifying Checksum", "Download complete", "Pull complete"]
    again = lamina("pull", f"{ref}:latest").check()
    assert again.stdout.splitlines() == ["latest: Pulling from team/app", f"Digest: {entry['digest']}",
                                         f"Status: Image is up to date for {ref}:latest", f"{ref}:latest"]
    # Another image on the same layer downloads only its own.
    server.asked.clear()
    publish(server, "team/other", "1", [BASE, make_tar({"own": b"x"})])
    other = lamina("pull", f"{server.host}/team/other:1").check()
    assert layer_lines(other.stdout, digests[0]) == ["Already exists"] and len(server.requests("/blobs/")) == 2  # config, one layer
    assert lamina("pull", "-q", ref).out == f"{ref}:latest"
    image = json.loads(lamina("image", "inspect", ref).out)[0]
    assert image["RepoDigests"] == [f"{ref}@{entry['digest']}"]
    by_digest = lamina("pull", f"{ref}@{entry['digest']}").check().stdout.splitlines()
    assert by_digest[0] == f"{ref}@{entry['digest']}: Pulling from team/app" and by_digest[-1] == f"{ref}@{entry['digest']}"
    assert rows(lamina, "partials") == 0 and not list((lamina.root / "partials").iterdir())
    sound(lamina)


def test_all_tags(lamina: Lamina, server: RegistryServer) -> None:
    for number in range(4):
        publish(server, "team/app", f"v{number}", [BASE, make_tar({f"own{number}": b"x"})])
    done = lamina("pull", "-a", f"{server.host}/team/app").check()
    headers = [line for line in done.stdout.splitlines() if "Pulling from" in line]
    assert headers == [f"v{number}: Pulling from team/app" for number in range(4)]
    assert done.stdout.count("Digest: ") == 4 and done.stdout.count("Status: ") == 1
    assert len(lamina("images", "-q").out.split()) == 4
    refused = lamina("pull", "-a", f"{server.host}/team/app:v1")
    assert (refused.returncode, refused.stderr) == (1, "tag can't be used with --all-tags/-a\n")
    sound(lamina)


def test_platforms_of_an_index(lamina: Lamina, server: RegistryServer) -> None:
    ref = f"{server.host}/many"
    index = publish_index(server, "many", "latest", {"linux/arm64": [make_tar({"arm": b"1"})], "linux/amd64": [make_tar({"amd": b"1"})],
                                                     "windows/amd64": [make_tar({"win": b"1"})]})
    assert index["digest"] in lamina("pull", "--platform", "linux/arm64", ref).check().stdout
    assert json.loads(lamina("image", "inspect", ref).out)[0]["Architecture"] == "arm64"
    assert "Downloaded newer image" in lamina("pull", "--platform", "amd64", ref).check().stdout
    inspected = json.loads(lamina("image", "inspect", ref).out)[0]
    assert inspected["Architecture"] == "amd64" and inspected["RepoDigests"] == [f"{ref}@{index['digest']}"]
    none = lamina("pull", "--platform", "linux/s390x", ref)
    assert none.returncode == 1 and "no matching manifest for linux/s390x in the manifest list entries" in none.stderr
    assert "linux/amd64, linux/arm64" in none.stderr
    assert "windows" in lamina("pull", "--platform", "windows/amd64", ref).stderr
    publish(server, "one", "latest", [BASE])
    single = lamina("pull", "--platform", "linux/arm64", f"{server.host}/one")
    assert single.returncode == 1 and "wanted linux/arm64, actual: linux/amd64" in single.stderr
    sound(lamina)


def test_run_pulls_what_is_missing(lamina: Lamina, server: RegistryServer, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    subprocess.run(["tar", "-C", str(busybox_tree(tree)), "-cf", str(tmp_path / "box.tar"), "."], check=True)
    publish(server, "box", "latest", [(tmp_path / "box.tar").read_bytes()])
    ref = f"{server.host}/box"
    never = lamina("run", "--rm", "--network", "none", "--pull", "never", ref, "true")
    assert never.returncode == 125 and f"No such image: {ref}:latest" in never.stderr and not server.asked
    done = lamina("run", "--rm", "--network", "none", ref, "echo", "out")
    assert done.out == "out"  # nothing else on stdout
    lines = done.stderr.splitlines()
    assert lines[:2] == [f"Unable to find image '{ref}:latest' locally", "latest: Pulling from box"]
    assert lines[-1] == f"Status: Downloaded newer image for {ref}:latest"
    server.asked.clear()
    assert lamina("run", "--rm", "--network", "none", ref, "echo", "out").check().stderr == "" and not server.asked
    assert lamina("run", "-q", "--rm", "--network", "none", "--pull", "always", ref, "echo", "out").check().stderr == "" and server.asked
    missing = lamina("create", f"{server.host}/nosuch")
    assert missing.returncode == 1 and f"manifest for {server.host}/nosuch:latest not found" in missing.stderr
    assert lamina("run", "sha256:" + "a" * 64).stderr.count("No such image") == 1
    assert lamina("ps", "-aq").out == ""


def test_names_that_stand_for_others(lamina: Lamina, server: RegistryServer, tmp_path: Path) -> None:
    publish(server, "team/tools", "latest", [BASE])
    settings = tmp_path / "lamina.toml"
    settings.write_text(f'[registries]\nsearch = ["127.0.0.1:1", "{server.host}"]\n'
                        f'[registries.short-names]\ntools = "{server.host}/team/tools"\n')
    env = {"LAMINA_CONFIG": str(settings)}
    assert lamina("pull", "-q", "tools", env=env).out == f"{server.host}/team/tools:latest"
    cid = lamina("create", "tools", env=env).out
    assert lamina("inspect", "-f", "{{.Config.Image}}", cid).out == f"{server.host}/team/tools:latest"
    settings.write_text('[registries]\nserach = []\n')
    wrong = lamina("pull", "tools", env=env)
    assert wrong.returncode == 1 and f"{settings}: registries.serach must be one of" in wrong.stderr


# -- what isn't believed


def test_a_layer_that_a_config_claims_is_not_given(lamina: Lamina, server: RegistryServer) -> None:
    """The config says that its layer is the private one that is here; its blob is another."""
    private = make_tar({"secret": b"of another image"})
    lamina("import", "-", "private", stdin=private).check()
    cheap = server.add_blob("evil", b"")
    config = server.add_blob("evil", config_of([sha(private)]))
    server.add_manifest("evil", {"schemaVersion": 2, "mediaType": MANIFEST, "config": {"mediaType": CONFIG, **config},
                                 "layers": [{"mediaType": LAYER, **cheap}]}, "latest")
    done = lamina("pull", f"{server.host}/evil")
    assert done.returncode == 1 and "Already exists" not in done.stdout and "instead of" in done.stderr, done.stderr
    assert lamina("images", "-q").out.count("\n") == 0
    publish(server, "honest", "latest", [private])  # a control: who has the bytes may say so
    assert "Pull complete" in lamina("pull", f"{server.host}/honest").check().stdout
    sound(lamina)


def index_of(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries)}).encode()


def bad_digest(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BIG])
    digest = entry["layers"][0]["digest"]
    server.blobs[digest] = b"\0" * len(server.blobs[digest])
    server.add_manifest("bad", entry, "latest")


def too_short(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BIG])
    entry["layers"][0]["size"] += 1000
    server.add_manifest("bad", entry, "latest")


def too_long(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BIG])
    entry["layers"][0]["size"] -= 1000
    server.add_manifest("bad", entry, "latest")


def endless(server: RegistryServer) -> None:
    """A body without a length that never ends."""
    entry = manifest_of(server, "bad", [BIG])
    server.add_manifest("bad", entry, "latest")

    def hook(handler: Any, method: str, path: str) -> bool:
        if entry["layers"][0]["digest"] not in path:
            return False
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        while True:
            handler.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")

    server.hook = hook


def wrong_diff_id(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BIG])
    config = server.add_blob("bad", config_of([sha(BASE)]))
    server.add_manifest("bad", {**entry, "config": {"mediaType": CONFIG, **config}}, "latest")


def layers_missing(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BASE, BIG])
    server.add_manifest("bad", {**entry, "layers": entry["layers"][:1]}, "latest")


def blob_missing(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BASE, make_tar({"never": b"seen"})])
    del server.blobs[entry["layers"][1]["digest"]]
    server.add_manifest("bad", entry, "latest")


def both_kinds(server: RegistryServer) -> None:
    server.add_manifest("bad", {**manifest_of(server, "bad", [BASE]), "manifests": []}, "latest")


def schema_1(server: RegistryServer) -> None:
    server.add_manifest("bad", {"schemaVersion": 1, "fsLayers": []}, "latest", media_type="application/vnd.oci.image.manifest.v1+json")


def told_as_another(server: RegistryServer) -> None:
    server.add_manifest("bad", manifest_of(server, "bad", [BASE]), "latest", media_type=INDEX)


def loop(server: RegistryServer) -> None:
    """An index can't hold its own digest, but a server may answer anything: what it gives isn't what was asked for."""
    entry = {"mediaType": INDEX, "digest": "sha256:" + "1" * 64, "size": 10}
    server.add_manifest("bad", index_of(entry), "latest", media_type=INDEX)
    server.manifests["bad", entry["digest"]] = (index_of(entry), INDEX)


def deep(server: RegistryServer) -> None:
    entry = publish(server, "bad", "inner", [BASE])
    for _ in range(5):
        entry = server.add_manifest("bad", index_of(entry), "latest", media_type=INDEX)


def huge_manifest(server: RegistryServer) -> None:
    server.add_manifest("bad", b" " * (5 << 20), "latest")


def artifact(server: RegistryServer) -> None:
    blob = server.add_blob("bad", b"{}")
    entry = {"mediaType": "application/vnd.oci.empty.v1+json", **blob}
    server.add_manifest("bad", {"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "text/sbom", "config": entry, "layers": []},
                        "latest")


def path_for_a_digest(server: RegistryServer) -> None:
    entry = manifest_of(server, "bad", [BASE])
    entry["layers"][0]["digest"] = "sha256:../../../../etc/passwd"
    server.add_manifest("bad", entry, "latest")


BAD = [
    (bad_digest, "has digest"), (too_short, "instead of"), (too_long, "instead of"), (endless, "is longer than"),
    (wrong_diff_id, "instead of"), (layers_missing, "has 1 layers, its config 2"), (blob_missing, "blob unknown to registry"),
    (both_kinds, "ambiguous"), (schema_1, "schema 1"), (told_as_another, "announced as"), (loop, "has digest"), (deep, "more than 3 deep"),
    (huge_manifest, "more than 4194304 bytes"), (artifact, "is no image but an artifact (text/sbom)"), (path_for_a_digest, "digest"),
]


def test_what_is_refused_changes_nothing(lamina: Lamina, server: RegistryServer) -> None:
    publish(server, "good", "latest", [BASE])
    lamina("pull", "-q", f"{server.host}/good").check()
    before = {table: rows(lamina, table) for table in ("images", "tags", "layers", "manifests", "blobs", "leases")}
    for make, text in BAD:
        server.hook = None
        make(server)
        done = lamina("pull", f"{server.host}/bad")
        assert done.returncode == 1 and text in done.stderr and "Traceback" not in done.stderr, f"{make.__name__}: {done.stderr}"
        assert {table: rows(lamina, table) for table in before} == before, make.__name__
        for key in [key for key in server.manifests if key[0] == "bad"]:
            del server.manifests[key]
    sound(lamina)


# -- what breaks


def cut(server: RegistryServer, digest: str, length: int, times: int = 1) -> None:
    """The first answers for a blob end early."""
    def hook(handler: Any, method: str, path: str) -> bool:
        nonlocal times
        if digest not in path or not times:
            return False
        times -= 1
        data = server.blobs[digest]
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("ETag", server.etag)
        handler.end_headers()
        handler.wfile.write(data[:length])
        handler.close_connection = True
        return True

    server.hook = hook


def big(server: RegistryServer) -> str:
    entry = manifest_of(server, "big", [BIG])
    server.add_manifest("big", entry, "latest")
    return str(entry["layers"][0]["digest"])


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_broke(lamina: Lamina, server: RegistryServer, ranges: bool) -> None:
    digest = big(server)
    server.ranges = ranges
    cut(server, digest, 1_000_000)
    lamina("pull", f"{server.host}/big").check()
    assert server.headers_of(digest, "Range") == ["", "bytes=1000000-"]
    sound(lamina)


def stopped(lamina: Lamina, server: RegistryServer, digest: str, length: int, by: int = signal.SIGKILL) -> tuple[int, bytes]:
    """A pull that gets a signal when so many bytes of a blob have come: its exit code and stderr."""
    reached, go = threading.Event(), threading.Event()

    def hook(handler: Any, method: str, path: str) -> bool:
        if digest not in path:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.blobs[digest])))
        handler.send_header("ETag", server.etag)
        handler.end_headers()
        handler.wfile.write(server.blobs[digest][:length])
        handler.wfile.flush()
        reached.set()
        go.wait(60)
        handler.close_connection = True
        return True

    server.hook = hook
    pulling = lamina.start("pull", f"{server.host}/big", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert reached.wait(60)
    place = lamina.root / "partials" / digest[7:]
    while not place.exists() or place.stat().st_size < 1 << 20:
        assert pulling.poll() is None
    pulling.send_signal(by)
    _, err = pulling.communicate(timeout=30)  # although the server says nothing more
    go.set()
    server.hook = None
    server.asked.clear()
    return pulling.returncode, err


def test_interrupted(lamina: Lamina, server: RegistryServer) -> None:
    digest = big(server)
    code, err = stopped(lamina, server, digest, 2 << 20, signal.SIGINT)
    assert (code, err) == (130, b"pull interrupted: what has come is kept for the next one\n")
    assert rows(lamina, "partials") == 1 and rows(lamina, "leases") == 0 and rows(lamina, "images") == 0
    sound(lamina)
    lamina("pull", f"{server.host}/big").check()
    assert server.headers_of(digest, "Range")[0].startswith("bytes=")


@pytest.mark.parametrize("change", ["none", "etag", "garbage"])
def test_a_later_pull_goes_on(lamina: Lamina, server: RegistryServer, change: str) -> None:
    digest = big(server)
    stopped(lamina, server, digest, 2 << 20)
    place = lamina.root / "partials" / digest[7:]
    at = place.stat().st_size
    assert at >= 1 << 20 and rows(lamina, "partials") == 1
    usage = lamina("system", "df", "--format", "{{.Type}} {{.Size}} {{.Reclaimable}}").out.splitlines()
    assert usage[0] == f"Images {human_size(at)} 0B (0%)"
    sound(lamina)
    if change == "etag":
        server.etag = '"2"'
    elif change == "garbage":
        place.write_bytes(b"\xff" * at)
    lamina("pull", f"{server.host}/big").check()
    asked = server.headers_of(digest, "Range")
    assert asked[0] == f"bytes={at}-" and len(asked) == (2 if change == "garbage" else 1)
    assert not place.exists() and rows(lamina, "partials") == 0
    sound(lamina)


def test_an_old_one_expires(lamina: Lamina, server: RegistryServer) -> None:
    digest = big(server)
    stopped(lamina, server, digest, 2 << 20)
    with sqlite3.connect(lamina.root / "lamina.db") as db:
        db.execute("UPDATE partials SET used_ns = used_ns - 8 * 86400 * 1000000000")
    lamina("image", "prune", "-f").check()
    assert rows(lamina, "partials") == 0 and not (lamina.root / "partials" / digest[7:]).exists()
    sound(lamina)


def test_two_at_once_download_once(lamina: Lamina, server: RegistryServer) -> None:
    digest = big(server)
    reached, go = threading.Event(), threading.Event()

    def hook(handler: Any, method: str, path: str) -> bool:
        if digest in path:
            reached.set()
            go.wait(60)
        return False

    server.hook = hook
    first = lamina.start("pull", "-q", f"{server.host}/big", stdout=subprocess.PIPE)
    assert reached.wait(60)
    second = lamina.start("pull", "-q", f"{server.host}/big", stdout=subprocess.PIPE)
    while len(server.requests("/manifests/")) < 2 or len(server.requests("/blobs/")) < 3:
        assert second.poll() is None
    go.set()
    for one in (first, second):
        out, _ = one.communicate(timeout=60)
        assert (one.returncode, out) == (0, f"{server.host}/big:latest\n".encode())
    assert len(server.requests(digest)) == 1
    sound(lamina)


def test_who_waits_takes_over(lamina: Lamina, server: RegistryServer) -> None:
    """The one that downloads is killed."""
    digest = big(server)
    reached, go = threading.Event(), threading.Event()

    def hook(handler: Any, method: str, path: str) -> bool:
        if digest in path and not reached.is_set():
            reached.set()
            go.wait(60)
        return False

    server.hook = hook
    first = lamina.start("pull", "-q", f"{server.host}/big", stdout=subprocess.PIPE)
    assert reached.wait(60)
    second = lamina.start("pull", "-q", f"{server.host}/big", stdout=subprocess.PIPE)
    while len(server.requests("/manifests/")) < 2:
        assert second.poll() is None
    first.kill()
    first.communicate()
    assert second.communicate(timeout=60)[0] == f"{server.host}/big:latest\n".encode() and second.returncode == 0
    go.set()
    sound(lamina)


def test_on_a_terminal(lamina: Lamina, server: RegistryServer) -> None:
    digest = big(server)
    seen = lamina.pty("pull", f"{server.host}/big").stdout
    assert f"{digest[7:19]}: Downloading [" in seen and f"{digest[7:19]}: Pull complete" in seen and "\x1b[" in seen
    assert seen.index("latest: Pulling from big") < seen.index("Pull complete") < seen.index("Digest: ")


def test_told_what_went_wrong(lamina: Lamina, server: RegistryServer) -> None:
    refused = lamina("pull", "127.0.0.1:1/x")
    assert refused.returncode == 1 and refused.stderr == (
        'Error response from daemon: Get "http://127.0.0.1:1/v2/x/manifests/latest": connect: connection refused\n')
    unknown = lamina("pull", "registry.invalid/x")
    assert unknown.returncode == 1 and 'Get "https://registry.invalid/v2/x/manifests/latest": dial tcp: lookup' in unknown.stderr
    for text, message in (("UPPER", "must be lowercase"), ("a b", "invalid reference format"), ("x:", "invalid reference format"),
                          ("x@sha256:12", "invalid"), ("-x", "")):
        bad = lamina("pull", text)
        assert bad.returncode in (1, 125) and message in bad.stderr
    none = lamina("pull", f"{server.host}/nothing")
    assert f"manifest for {server.host}/nothing:latest not found" in none.stderr
    with RegistryServer(auth="basic") as closed:
        denied = lamina("pull", f"{closed.host}/private")
    assert denied.returncode == 1 and "pull access denied for" in denied.stderr and f"lamina login {closed.host}" in denied.stderr
