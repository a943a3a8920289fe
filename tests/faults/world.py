# SPDX-License-Identifier: Apache-2.0
"""What there is of an engine, wherever it may be: mounts, cgroups, links, firewall, processes, files, rows; and what of it has no business
there. Looked at from outside: by the kernel's own files, `nft`, and the store's check, which changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from lamina.containers import state as states
from lamina.runtime.cgroups import detect
from lamina.store import check
from lamina.store.open import Store
from lamina.store.paths import Names
from lamina.util.identity import boot_id, is_alive

if TYPE_CHECKING:
    from tests.conftest import Lamina


def names_of(lamina: Lamina) -> Names:
    return Names(os.path.realpath(lamina.root), os.path.realpath(lamina.runroot))


def objects(lamina: Lamina) -> set[str]:
    """What a user can name: containers with their state, tags, volumes."""
    with Store.open(str(lamina.root), str(lamina.runroot)) as store:
        found = {f"image {repo}:{tag}" for repo, tag in store.db.execute("SELECT repo, tag FROM tags")}
        found |= {"volume " + ("anonymous" if anonymous else name)
                  for name, anonymous in store.db.execute("SELECT name, anonymous FROM volumes")}
        for cid, name in store.db.execute("SELECT id, name FROM containers"):
            found.add(f"container {name} {states.load(store.paths, cid).status}")
    return found


def wrong(lamina: Lamina) -> list[str]:
    """Everything that nothing which exists accounts for."""
    with Store.open(str(lamina.root), str(lamina.runroot)) as store:
        # A container's removal of which only the journal's entry is left is what every `run --rm` leaves to the next command.
        found = [f"{p.code} {p.object}: {p.text}" for p in check.check(store)
                 if p.code != "S17" or os.path.lexists(f"{store.paths.root}/{p.object.replace(' ', 's/')}")]  # fmt: skip
        known = {row[0] for row in store.db.execute("SELECT id FROM containers")}
        found += [f"a --rm container that never ran: {row[0]}" for row in store.db.execute("SELECT id FROM containers WHERE auto_remove=1")
                  if not states.load(store.paths, row[0]).live]  # fmt: skip
        live = {cid: states.load(store.paths, cid) for cid in known}
        live = {cid: state for cid, state in live.items() if state.live}
        bridged = sum(1 for row in store.db.execute("SELECT container_id FROM endpoints") if row[0] in live)
    names, run = names_of(lamina), os.path.realpath(lamina.runroot)
    allowed = {f"{run}/rootfs/{cid}" for cid in live}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split(" ")[4]
        if target.startswith(str(lamina.root.parent) + "/") and target not in allowed and " - overlay " in line:
            found.append(f"mount {target}")
    found += [f"run file {path}" for path in Path(run).glob("containers/*/*")
              if path.name not in ("monitor.lock", "execs") and path.parent.name not in live]
    found += [f"mount point {path}" for path in Path(run).glob("rootfs/*") if path.name not in live and path.name not in known]
    mine = {state.monitor_pid for state in live.values()} | {os.getpid()}
    execs = []
    for path in Path(run).glob("active/*"):
        pid, started, *rest = path.name.split("-")
        if not is_alive(int(pid), int(started), boot_id()):
            found.append(f"marker {path.name}")
        elif len(rest) == 2:
            mine.add(int(pid))
            execs.append(rest)
    for cid in live:
        sockets = {path.stem for path in Path(run).glob(f"containers/{cid}/execs/*.sock")}
        found += [f"socket of exec {one}" for one in sockets if [cid, one] not in execs]
        count = sum(1 for base in v1_or_v2() for _ in Path(f"{base}{names.cgroup}/{cid}/cgroup.procs").read_text().split())
        if count > 1 + sum(1 for one in execs if one[0] == cid):
            found.append(f"{count} processes in container {cid}")
    for hierarchy in detect().hierarchies:
        for base in hierarchy.bases():
            for path in Path(base + names.cgroup).glob("*"):
                if path.is_dir() and path.name != "monitor" and path.name not in live:
                    found.append(f"cgroup {path}")
    ports = list(Path(f"/sys/class/net/{names.bridge}/brif").glob("*"))
    if len(ports) != bridged:
        found.append(f"{len(ports)} links on the bridge for {bridged} containers: {[p.name for p in ports]}")
    found += [f"process {one}" for one in processes(lamina) if int(one.split(" ")[0]) not in mine]
    if not live:
        found += [f"firewall element {text}" for text in elements(names.table)]
    return found


def v1_or_v2() -> list[str]:
    """The mount point of one hierarchy that shows the processes."""
    return [base for hierarchy in detect().hierarchies for base in hierarchy.bases()][:1]


def processes(lamina: Lamina) -> list[str]:
    """pid and command line of whatever was started with this engine's root in its arguments: commands, monitors, inits before exec."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                words = Path(f"/proc/{entry}/cmdline").read_bytes()
            except OSError:
                continue
            if str(lamina.root).encode() in words:
                found.append(f"{entry} {words.replace(bytes(1), b' ')[-120:].decode(errors='replace')}")
    return found


def elements(table: str) -> list[str]:
    """The elements of the table's maps and sets, which stand for published ports."""
    done = subprocess.run(["nft", "-j", "list", "table", "inet", table], capture_output=True)
    found = []
    for one in json.loads(done.stdout or b"{}").get("nftables", ()):
        for kind in ("map", "set"):
            if kind in one:
                found += [json.dumps(element) for element in one[kind].get("elem", ()) if not isinstance(element, str)]  # a bridge's name
    return found
