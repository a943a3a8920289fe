# SPDX-License-Identifier: Apache-2.0
"""The command lines of goldens/session.txt, one after the other on one engine, against what docker 26.1 answered to them.

stdout, stderr and exit code are the same but for ids and times; where they are meant to differ, DIFFERENT says how
(docs/compatibility.md says why).
"""
from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.cli.session import BUSYBOX, Session, lines, make_files
from tests.conftest import Lamina

GOLDENS = Path(__file__).parent / "goldens"
HELP = "\nSee 'lamina run --help'.\n"
LATER = "lamina: Error response from daemon: "
PRUNE = re.compile(r"  - (all networks not|unused build cache|all build cache)[^\n]*\n")

# command line -> what isn't as docker's
DIFFERENT: dict[str, dict[str, Any]] = {
    "events --since 1 --until 2 --filter foo=bar": {"code": 1, "stderr": "Error response from daemon: invalid filter 'foo'\n"},
    "run --name none nosuch true": {
        "stderr": f"Unable to find image 'nosuch:latest' locally\n{LATER}"
        f'Get "http://127.0.0.1:1/v2/nosuch/manifests/latest": connect: connection refused.{HELP}'
    },
    "run --rm -h bad_name! box true": {"code": 125, "stderr": f"{LATER}invalid hostname format: bad_name!.{HELP}"},
    "run --rm --tmpfs /x:foo box true": {"stderr": f'{LATER}invalid tmpfs option "foo".{HELP}'},
    "run --rm --network nosuch box true": {
        "stderr": f"{LATER}network nosuch not found.{HELP}Hint: bridge, none and host are there; networks of your own come later\n"
    },
    "run --rm --network container:nosuch box true": {
        "stderr": f"{LATER}network mode container:nosuch is not supported yet.{HELP}Hint: bridge, none and host are\n"
    },
    "run --rm --sysctl net.foo=1 box true": {
        "code": 125,
        "stderr": f"{LATER}failed to create task for container: failed to create shim task: OCI runtime create failed: lamina-runtime "
        "create failed: unable to start container process: error during container init: sysctl: sys/net/foo: no such file or directory: "
        "unknown.\n",
    },
    "run --rm --device /dev/nosuch box true": {
        "code": 125,
        "stderr": f'{LATER}error gathering device information while adding custom device "/dev/nosuch": no such file or directory.{HELP}',
    },
    "run --rm --dns 1.2.3.4 --dns-search example.org --dns-option ndots:2 box cat /etc/resolv.conf": {
        "stdout": "search example.org\nnameserver 1.2.3.4\noptions ndots:2\n"
    },
    "run --rm --log-driver foo box true": {
        "stderr": f"{LATER}log driver foo is not supported yet.{HELP}Hint: json-file and none are\n"
    },
    "cp idle: .": {"stderr": "Error response from daemon: bad parameter: path cannot be empty\n"},
    'inspect --type network -f "{{.Name}}" nosuch': {
        "stdout": "", "stderr": "--type network: this version of lamina has containers, images and volumes only\n"
    },
    "top idle -Q": {
        "stderr": "Error response from daemon: top: ps option -Q is not supported\nHint: -ef, aux, and -o with a list of columns are\n"
    },
    "tty cp note idle:/root/note": {"stdout": "Successfully copied 2.05kB to idle:/root/note\r\n"},
}  # fmt: skip


def wanted(case: dict[str, Any]) -> dict[str, Any]:
    """docker's answer with our name, and without the kinds of objects that we don't have."""
    texts = {key: case[key].replace("docker", "lamina").replace(": runc create failed", ": lamina-runtime create failed")
             for key in ("stdout", "stderr")}  # fmt: skip
    if "system prune" in case["line"]:
        texts["stdout"] = PRUNE.sub("", texts["stdout"])
    return {**case, **texts, **DIFFERENT.get(case["line"], {})}


def test_the_session(lamina: Lamina, tmp_path: Path) -> None:
    assert BUSYBOX.exists(), "needs a static /bin/busybox (package busybox-static)"
    recorded = {case["line"]: case for case in json.loads((GOLDENS / "session.json").read_text())}
    script = lines(GOLDENS / "session.txt")
    assert set(script) == set(recorded), "scripts/golden --session records again"
    assert len(recorded) > 150 and set(DIFFERENT) <= set(recorded)
    files = tmp_path / "files"
    files.mkdir()
    make_files(files)
    session = Session(lamina.prefix, files, pause=0.1)
    wrong = []
    for case in json.loads((GOLDENS / "session.json").read_text()):
        want, got = wanted(case), session.run(case["line"])
        if got != want:
            parts = [f"  {key}: {got[key]!r}\n  not {want[key]!r}" for key in got if got[key] != want[key]]
            wrong.append("\n".join([f"$ {case['line']}", *parts]))
    assert not wrong, "\n".join(wrong)
