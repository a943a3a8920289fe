# SPDX-License-Identifier: Apache-2.0
"""`--explain`: every verb takes it, before and behind its name, and what it tells is true: compared with the store, the kernel's tables
of mounts, cgroups, processes and links. Without it nothing is told."""
from __future__ import annotations

import os
import re
import select
import sqlite3
import subprocess
from pathlib import Path

import pytest

from lamina.cli.registry import GROUPS, TOP
from tests.conftest import Done, Lamina, make_tar
from tests.registry.published import publish
from tests.registry.registry_server import RegistryServer

LINE = re.compile(r" *(\d+\.\d) ( *\d+\.\d|  {6})  (lamina |monitor|init   )  (\S.*)")
HEADER = "     ms    took  who      what happened"


class Step:
    def __init__(self, at: str, took: str, who: str, text: str) -> None:
        self.at, self.took, self.who, self.text = float(at), took.strip(), who.strip(), text


def steps_of(done: Done) -> list[Step]:
    """The lines that --explain has written among others on stderr, each of the documented form."""
    lines = done.stderr.splitlines()
    assert HEADER in lines, done.stderr
    told = []
    for line in lines[lines.index(HEADER) + 1 :]:
        match = LINE.fullmatch(line)
        if match:
            told.append(Step(*match.groups()))
    assert told[0].text == "was started, and read its command line (CPU time)"
    assert told[-1].text == f"ended with exit code {done.returncode}" and told[-1].who == "lamina"
    return told


class World:
    """What there is in an engine, as its database says: short ids."""

    def __init__(self, lamina: Lamina) -> None:
        with sqlite3.connect(f"file:{lamina.root}/lamina.db?mode=ro", uri=True) as db:
            self.layers = {row[0][7:19] for row in db.execute("SELECT chain_id FROM layers")}
            self.containers = {row[0][:12] for row in db.execute("SELECT id FROM containers")}
            self.images = {row[0][7:19] for row in db.execute("SELECT id FROM images")}


WORDS = r"((?:[0-9a-f]{12}(?:, )?)+)"


def check(told: list[Step], before: World, after: World, words: tuple[str, ...], base: Path) -> int:
    """How many facts of the lines were compared and found true. A path is there, or gone if the last line that names it says so."""
    facts, seen = 0, set()
    layers, images, containers = before.layers | after.layers, before.images | after.images, before.containers | after.containers
    for step in reversed(told):
        for kind, known in (("layers?", layers), ("top first:", layers), ("image", images), ("container", containers)):
            for found in re.findall(rf"\b{kind} {WORDS}", step.text):
                for name in found.strip(", ").split(", "):
                    assert name in known or (kind == "container" and "--rm" in words), f"{step.text}: {name} is none of {known}"
                    facts += 1
        for path in set(re.findall(rf"({re.escape(str(base))}/[^\s,;:]+)", step.text)) - seen:
            gone = step.text.startswith(("removed", "unmounted"))
            assert gone != os.path.lexists(path) or "--rm" in words, f"{step.text}: {path}"
            seen.add(path)
            facts += 1
    return facts


# (target of the registry, what is typed, what is told), in an order in which each works.
TYPED: list[tuple[str, str, str]] = [
    ("build:build", "build --check {dockerfiles}", "read .*/Dockerfile: 2 lines"),
    ("transfer:import", "import {tar} small", r"laid out 1 file, 5 bytes, .*"),
    ("run:create", "create --name aa -v data:/data box sleep 1000", "made its read-write layer, empty: .*/rw/diff"),
    ("mounts:mount", "mount aa", "mounted at .* its read-write layer, the init layer, layers [0-9a-f]{12}"),
    ("mounts:umount", "umount aa", "unmounted .*"),
    ("lifecycle:start", "start aa", "mounted the union at .*"),
    ("ps:ps", "ps", "read 1 container .*"),
    ("exec:exec", "exec aa true", "entered the container's cgroup, then its namespaces: .*"),
    ("manage:top", "top aa", "read the processes of the cgroup .*"),
    ("manage:pause", "pause aa", "froze the cgroup .*"),
    ("manage:unpause", "unpause aa", "let the cgroup .* go on"),
    ("manage:update", "update --pids-limit 100 aa", "wrote .*"),
    ("manage:rename", "rename aa bb", "renamed container .* from aa to bb.*"),
    ("watch:stats", "stats --no-stream bb", "read the counters of the cgroup .*"),
    ("port:port", "port bb", "read container .*"),
    ("logs:logs", "logs bb", "reads the log .*/log.json"),
    ("inspect:inspect", "inspect bb", "read container .*"),
    ("inspect:container", "container inspect bb", "read container .*"),
    ("inspect:image", "image inspect box", "read image .*"),
    ("cp:cp", "cp bb:/etc/passwd -", "opened the tree of container .*"),
    ("transfer:diff", "diff bb", "compared the read-write layer .*"),
    ("transfer:commit", "commit bb made", "wrote down image .* under the name made:latest"),
    ("transfer:export", "export -o {file} bb", "opened the union of container .*"),
    ("lifecycle:kill", "kill -s USR1 bb", "had signal 10 sent .*"),
    ("manage:restart", "restart -t 0 bb", "saw the end of process 1, exit code 137.*"),
    ("lifecycle:stop", "stop -t 0 bb", "unmounted the union: .*"),
    ("lifecycle:rm", "rm bb", "removed its files, the read-write layer among them: .*"),
    ("run:run", "run --rm --network none box true", "executes /bin/true"),
    ("images:history", "history made", "read image .* bottom first: .*"),
    ("images:ls", "images", "read the images .*"),
    ("images:tag", "tag made other", "pointed the name other:latest to image .*"),
    ("archives:save", "save -o {file} other", "found what is to be saved: other; .*"),
    ("archives:load", "load -q -i {file}", "opened the archive, .*"),
    ("registry:pull", "pull -q {registry}/small", "wrote down image .*, its manifests and the name .*"),
    ("registry:push", "push -q {registry}/small", "pushed 1 layer, config and manifest of image .*"),
    ("manifest:inspect", "manifest inspect {registry}/small", "asked .* for the manifest of .*/small:latest: .* bytes"),
    ("registry:tags", "tags {registry}/small", "asked .* for the tags of small: 1"),
    ("registry:search", "search {registry}/sm", "asked for names with .*: 1 found"),
    ("login:login", "--config={config} login -u me -p secret {registry}", "asked .* whether it takes the credentials: it does"),
    ("login:logout", "--config={config} logout {registry}", "took the credentials of .* out of .*/config.json"),
    ("images:rm", "rmi other", "struck from the database: other:latest"),
    ("images:mount", "image mount made", "mounted the union of layers .* read-only, at .*"),
    ("images:umount", "image umount made", "unmounted .*"),
    ("images:prune", "image prune -f", "looked at every image.*"),
    ("layers:ls", "layer ls", r"read \d layers .*"),
    ("layers:tree", "layer tree", r"read \d layers .*"),
    ("layers:path", "layer path box", "found image .*"),
    ("volumes:create", "volume create vol", "made volume vol: .*/volumes/vol/_data"),
    ("volumes:ls", "volume ls", "read the volumes.*"),
    ("volumes:inspect", "volume inspect vol", "read the row of volume vol .*"),
    ("volumes:rm", "volume rm vol", "removed volume vol and its files"),
    ("volumes:prune", "volume prune -f", "opened the store .*"),
    ("manage:prune", "container prune -f", "opened the store .*"),
    ("watch:events", "events --since 1h --until 0s", "reads the journal .*/events"),
    ("system:info", "info", "counted 0 containers, .*"),
    ("usage:df", "system df", "opened the store .*"),
    ("usage:prune", "system prune -f", "opened the store .*"),
    ("system:boot", "system boot", "opened the store .*"),
    ("system:check", "system check", "swept .*"),
    ("system:version", "version", "was started.*"),
    ("completion:completion", "completion bash", "was started.*"),
    ("system:adopt", "system adopt", "was started.*"),
    ("system:reset", "system reset -f", "removed the containers, the bridge .*"),
]
APART = {"manage:attach", "lifecycle:wait"}  # they don't end by themselves: test_attach_and_wait


def test_every_verb_is_typed_here() -> None:
    """A verb that is new needs a line in TYPED."""
    known = {*TOP.values(), *(target for words in GROUPS.values() for _, target in words.values())}
    assert known == {target for target, _, _ in TYPED} | APART


def test_every_verb_tells_what_it_does_and_it_is_true(lamina: Lamina, box: str, tmp_path: Path) -> None:
    tar = tmp_path / "small.tar"
    tar.write_bytes(make_tar({"file": b"12345"}))
    with RegistryServer() as server:
        publish(server, "small", "latest", [make_tar({"other": b"1"})])
        values = {"tar": str(tar), "file": str(tmp_path / "out.tar"), "registry": server.host, "config": str(tmp_path),
                  "dockerfiles": str(tmp_path)}
        (tmp_path / "Dockerfile").write_text("FROM scratch\n")
        facts = typed_out(lamina, values, tmp_path)
    assert facts > 100


def typed_out(lamina: Lamina, values: dict[str, str], tmp_path: Path) -> int:
    facts = 0
    after = World(lamina)
    for number, (target, typed, told) in enumerate(TYPED):
        words = tuple(word.format(**values) for word in typed.split())
        where = 0 if number % 2 else 2 if words[0] in GROUPS else 1
        done = lamina(*words[:where], "--explain", *words[where:])
        assert done.returncode == 0, f"{words}: {done.stderr}"
        before, found = after, steps_of(done)
        assert any(re.fullmatch(told, step.text) for step in found), f"{typed}: none of these is {told!r}:\n{done.stderr}"
        assert all(step.took for step in found if step.who == "lamina")
        if target != "system:reset":
            after = World(lamina)
            facts += check(found, before, after, words, tmp_path)
    return facts


def one(told: list[Step], pattern: str) -> re.Match[str]:
    """The one line that begins so."""
    found = [match for step in told if (match := re.match(pattern, step.text))]
    assert len(found) == 1, f"{pattern!r}: {[step.text for step in told]}"
    return found[0]


def overlays(lamina: Lamina) -> dict[str, str]:
    """Mount point -> options of the unions of this engine that the host sees."""
    lines = [line.split(" ") for line in Path("/proc/self/mounts").read_text().splitlines()]
    return {words[1]: words[3] for words in lines if words[2] == "overlay" and str(lamina.runroot) in words[1]}


def test_what_is_told_of_a_start_and_of_the_end_is_what_the_kernel_says(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--explain", "-d", "--name", "one", "--hostname", "here", "-m", "32m", "box", "sleep", "1000").check()
    told, cid = steps_of(done), done.stdout.strip()
    assert {step.who for step in told} == {"lamina", "monitor", "init"}
    # the union, at its place, of the layers in their order
    mounted = one(told, r"mounted the union at (\S+): (.*)")
    options = overlays(lamina)[mounted[1]]
    upper, *lowers = mounted[2].split(" over ")
    assert f"upperdir={upper}," in options and re.findall(r"lowerdir\+?=([^,]+)", options)[-len(lowers):] in (lowers, [":".join(lowers)])
    # the monitor and the process
    monitor = int(one(told, r"took the plan, as process (\d+) of the host; clients find it at (\S+)")[1])
    assert b"lamina" in Path(f"/proc/{monitor}/cmdline").read_bytes()
    pid = int(one(told, r"made process (\d+) of the host, which will be process 1")[1])
    assert re.search(rf"^NSpid:\t.*\b{pid}\t.*\b1$", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    for kind in one(told, "was born in the cgroup, in namespaces of its own: (.*)")[1].split(", "):
        link = {"mount": "mnt", "network": "net"}.get(kind, kind)
        assert os.readlink(f"/proc/{pid}/ns/{link}") != os.readlink(f"/proc/self/ns/{link}")
    # its cgroup, its end of the network, what is mounted inside
    group = one(told, r"made the cgroup (\S+), with limits")[1]
    assert re.search(rf":{re.escape(group)}$", Path(f"/proc/{pid}/cgroup").read_text(), re.M)
    network = one(told, r"put eth0 with ([\d.]+)/\d+ into its network namespace; the other end, (\w+), is on the bridge (\S+)")
    assert os.readlink(f"/sys/class/net/{network[2]}/master").endswith("/" + network[3])
    assert lamina("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "one").out == network[1]
    inside = {line.split(" ")[4] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
    assert {"/", *one(told, "mounted (/proc, .*)")[1].split(", ")} <= inside
    assert one(told, "took the host name (.*?),")[1] == "here"
    status = Path(f"/proc/{pid}/status").read_text()
    became = one(told, r"became user 0:0 with (\d+) capabilities, behind a seccomp filter")
    assert int(re.search(r"^CapEff:\t(\w+)$", status, re.M)[1], 16).bit_count() == int(became[1]) and "Seccomp:\t2" in status
    assert one(told, "let process (.*?) execute")[1] == str(pid)

    done = lamina("--explain", "rm", "-f", "one").check()
    told = steps_of(done)
    assert one(told, "unmounted the union: (.*)")[1] == mounted[1] and not overlays(lamina)
    assert one(told, "removed the cgroup (.*)")[1] == group and not list(Path("/sys/fs/cgroup").glob(f"*{group}"))
    assert one(told, "had SIGKILL sent to the process 1 of container (.*)")[1] == cid[:12] and not Path(f"/proc/{pid}").exists()
    removed = one(told, "removed its files, the read-write layer among them: (.*)")[1]
    assert removed in upper and not os.path.exists(removed)
    one(told, "saw the end of process 1, exit code 137")
    assert [step.at for step in told] == sorted(step.at for step in told)


def test_what_the_monitor_does_after_the_exit_is_waited_for(lamina: Lamina, box: str) -> None:
    done = lamina("--explain", "run", "--rm", "box", "sh", "-c", "echo out; echo err >&2; exit 3")
    assert done.returncode == 3 and done.stdout == "out\n" and "\nerr\n" in done.stderr
    told = steps_of(done)
    assert [one(told, f"removed {re.escape(str(base))}/containers/")[0] for base in (lamina.root, lamina.runroot)]
    assert not os.listdir(lamina.root / "containers") and not os.listdir(lamina.runroot / "containers")


def test_a_start_that_fails_tells_how_far_it_came_and_what_was_undone(lamina: Lamina, box: str) -> None:
    done = lamina("run", "--explain", "--network", "none", "box", "/nothing")
    assert done.returncode == 127 and "/nothing: no such file" in done.stderr
    told = steps_of(done)
    one(told, "took the host name")
    assert not any(step.text.startswith(("became", "executes", "let process", "heard from")) for step in told)
    path = one(told, "unmounted the union: (.*)")[1]
    assert one(told, "mounted the union at (.*?): ")[1] == path and not os.path.exists(path)


@pytest.mark.parametrize("verb", ["attach", "wait"])
def test_attach_and_wait(lamina: Lamina, box: str, verb: str) -> None:
    """Told at once what they wait for; then how the container ends."""
    cid = lamina("run", "-d", "box", "sleep", "1000").out
    waiting = lamina.start("--explain", verb, cid, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert waiting.stderr is not None and waiting.stdout is not None
    told = b""
    while b" monitor of container " + cid[:12].encode() not in told:
        assert select.select([waiting.stderr], [], [], 20)[0] and waiting.poll() is None, told
        told += os.read(waiting.stderr.fileno(), 65536)
    lamina("kill", cid).check()
    out, err = waiting.communicate(timeout=60)
    code = waiting.returncode
    assert (code, out) == ((137, b"") if verb == "attach" else (0, b"137\n"))
    found = steps_of(Done((), code, out.decode(), (told + err).decode()))
    one(found, "saw the end of process 1, exit code 137")


def test_without_it_nothing_is_told(lamina: Lamina, box: str) -> None:
    assert lamina("run", "--rm", "--network", "none", "box", "true").stderr == ""
    assert lamina("--explain=false", "ps").stderr == ""
    # behind the image it is the command's own
    assert lamina("run", "--rm", "--network", "none", "box", "echo", "--explain").out == "--explain"


def test_on_a_terminal_it_is_coloured_and_wrapped_elsewhere_not(lamina: Lamina, box: str) -> None:
    seen = lamina.pty("--explain", "run", "--rm", "box", "true").stdout
    assert "\x1b[36mlamina \x1b[0m  opened the store" in seen and "\x1b[35minit   \x1b[0m" in seen
    plain = re.sub(r"\x1b\[\d*m", "", seen)
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in plain.splitlines()), "only a path is longer than the terminal is wide"
    assert any(re.fullmatch(r" {26}\S.*", line) for line in plain.splitlines())
    done = Done((), *_pty(lamina, {"NO_COLOR": "1"}))
    assert "opened the store" in done.stdout and "\x1b" not in done.stdout
    done = Done((), *_pty(lamina, {"NO_COLOR": ""}))
    assert "\x1b[36mlamina" in done.stdout


def _pty(lamina: Lamina, env: dict[str, str]) -> tuple[int, str, str]:
    done = subprocess.run(["script", "-qec", " ".join([*lamina.prefix, "--explain", "ps"]), "/dev/null"], stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, env={**os.environ, **env}, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_what_is_told_is_harmless_and_one_line_a_step(lamina: Lamina, box: str) -> None:
    done = lamina("--explain", "create", "-v", "/tmp:/x\n\x1b[31m", "box", "true").check()
    assert "\x1b" not in done.stderr and "/x\\n\\x1b[31m" in done.stderr
    steps_of(done)


def test_a_stderr_that_takes_nothing_changes_nothing(lamina: Lamina, box: str) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*lamina.prefix, "--explain", "run", "--rm", "box", "echo", "out"], stdout=subprocess.PIPE, stderr=full,
                              stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"out\n")
