# SPDX-License-Identifier: Apache-2.0
"""One container's control group over all hierarchies of the host.  [hot]

Lifecycle: `create` makes the directories and sets the limits; the new process enters by itself (`enter_self`, or fds opened before by
`prepare_enter`); `kill`, `remove`. On v1 a process enters by writing "0" to `tasks`, which moves the one writing thread and is 50 times
faster than `cgroup.procs`; so it must be single-threaded. The v2 tree has no such short cut: `clone_fd` is for CLONE_INTO_CGROUP.
"""

from __future__ import annotations

import errno
import os

from lamina.errors import Conflict, InvalidArgument, LaminaError, NotSupported, StartError
from lamina.linux import ns
from lamina.runtime.cgroups import files
from lamina.runtime.cgroups.devices import DeviceRules
from lamina.runtime.cgroups.layout import UNIFIED, V1_CONTROLLERS, Hierarchy, Layout, detect
from lamina.runtime.cgroups.resources import Write, check, huge_writes, v1_writes, v2_writes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

_SIGKILL = 9
_BATCH = 256  # pidfds held open at once
# Section of linux.resources -> the controller it needs on v1 and on v2.
_SECTIONS = {
    "memory": ("memory", "memory"),
    "cpu": ("cpu", "cpu"),
    "pids": ("pids", "pids"),
    "blockIO": ("blkio", "io"),
    "rdma": ("rdma", "rdma"),
}
_V2_WANTED = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb", "rdma", "misc")


def check_path(path: str) -> str:
    """An absolute cgroup path in plain form: no "..", no empty part, no control characters."""
    parts = path.split("/")
    if (
        not path.startswith("/")
        or len(parts) < 2
        or any(p in ("", ".", "..") or len(p.encode()) > 255 or not p.isprintable() for p in parts[1:])
    ):
        raise InvalidArgument(f"invalid cgroup path {path!r}")
    return path


class Cgroup:
    """`path` as asked for; `paths` maps each controller ("name=systemd"; "" for the v2 tree) to its directory; parents may differ."""

    __slots__ = ("_missing", "layout", "path", "paths")

    def __init__(self, path: str, paths: Mapping[str, str], layout: Layout | None = None) -> None:
        self.path = path
        self.paths = dict(paths)
        self.layout = layout
        self._missing: dict[str, str] = {}  # controller -> why there is no directory for it

    # ---- making and finding ----

    @classmethod
    def create(
        cls, path: str, resources: Mapping[str, Any] | None = None, *, layout: Layout | None = None, exist_ok: bool = False
    ) -> Cgroup:
        """A new, empty group with the limits of OCI `linux.resources`. An old empty one of that name is replaced; one with processes is a
        Conflict, unless `exist_ok` (groups of the engine's own, such as the monitors'). On any error nothing is left."""
        check_path(path)
        layout = layout or detect()
        given: dict[str, Any] = dict(resources or {})
        check(given)
        self = cls(path, {}, layout)
        made: list[str] = []
        try:
            for h in layout.hierarchies:
                self._make(h, made, exist_ok)
            if UNIFIED in self.paths:
                self._delegate(layout, given)
            self._fill_cpuset()
            self._set(given, update=False)
        except BaseException:
            for directory in reversed(made):
                files.remove_tree(directory, 0)
            raise
        return self

    @classmethod
    def open(cls, path: str, *, layout: Layout | None = None) -> Cgroup:
        """An existing group by its path, for another process than the one that made it. `paths` may be empty: then it has gone."""
        check_path(path)
        layout = layout or detect()
        self = cls(path, {}, layout)
        for h in layout.hierarchies:
            for base in h.bases():
                if os.path.isdir(base + path):
                    for name in h.controllers if h.version == 1 else (UNIFIED,):
                        self.paths[name] = base + path
                    break
        return self

    def _make(self, h: Hierarchy, made: list[str], exist_ok: bool) -> None:
        names = h.controllers if h.version == 1 else (UNIFIED,)
        problem = ""
        for base in h.bases():
            directory = base + self.path
            try:
                self._mkdir(directory, base, made, exist_ok)
            except OSError as e:
                if e.errno not in files.NO_RIGHT:
                    raise StartError(f"cgroup {e.filename}: {e.strerror}") from None
                problem = f"{e.filename}: {e.strerror}"
                continue
            for name in names:
                self.paths[name] = directory
            return
        for name in names if h.version == 1 else h.controllers:
            self._missing[name] = problem

    def _mkdir(self, directory: str, base: str, made: list[str], exist_ok: bool) -> None:
        for _ in range(10):  # a parent may be swept by another process between our two mkdirs
            try:
                os.mkdir(directory, 0o755)
            except FileNotFoundError:
                at = base
                for part in self.path[1:].split("/")[:-1]:
                    at += "/" + part
                    try:
                        os.mkdir(at, 0o755)
                    except FileExistsError:
                        pass
                    except FileNotFoundError:
                        break
                continue
            except FileExistsError:
                if exist_ok:
                    return
                if files.procs_of(directory) or not files.remove_tree(directory, 0.2):
                    raise Conflict(f"cgroup {self.path} exists already and has processes ({directory})") from None
                continue
            made.append(directory)
            return
        raise StartError(f"cgroup {directory}: can't be created, its parents keep disappearing")

    def _ancestors(self, directory: str) -> list[str]:
        """The group's parents, from just below the base down to its direct one; the base first."""
        parts = self.path[1:].split("/")
        at = directory[: -len(self.path)]
        out = [at]
        for part in parts[:-1]:
            at += "/" + part
            out.append(at)
        return out

    def _delegate(self, layout: Layout, resources: Mapping[str, Any]) -> None:
        """Hand controllers down the v2 tree. All that we know on a pure v2 host; on a hybrid one only those needed, since other
        runtimes refuse hosts whose v2 tree has controllers enabled."""
        if layout.kind == "v2":
            wanted = set(_V2_WANTED) | {f.partition(".")[0] for f in resources.get("unified") or ()}
        else:
            wanted = {w.controller.removeprefix("unified:") for w in self._writes(resources) if self._v2_holds(w.controller)}
        if not wanted:
            return
        for directory in self._ancestors(self.paths[UNIFIED]):
            has = set(files.read_or(directory + "/cgroup.controllers").split())
            lacking = sorted((wanted & has) - set(files.read_or(directory + "/cgroup.subtree_control").split()))
            if not lacking:
                continue
            control = directory + "/cgroup.subtree_control"
            try:
                files.write(control, " ".join("+" + c for c in lacking))
            except OSError:
                for c in lacking:  # all or nothing per write: find out which one it is
                    try:
                        files.write(control, "+" + c)
                    except OSError as e:
                        hint = " (a v2 group that has processes can't hand controllers to children)" if e.errno == errno.EBUSY else ""
                        self._missing.setdefault(c, f"{control}: {e.strerror}{hint}")

    def _fill_cpuset(self) -> None:
        """A v1 cpuset begins empty and admits nobody: cpus and mems come from the parent, down the whole path."""
        directory = self.paths.get("cpuset")
        if directory is None:
            return
        chain = [*self._ancestors(directory), directory]
        for file in ("cpuset.cpus", "cpuset.mems"):
            above = ""
            for at in chain:
                value = files.read_or(f"{at}/{file}").strip()
                if not value and above:
                    try:
                        files.write(f"{at}/{file}", above)
                    except OSError as e:
                        raise StartError(f"cpuset of {at}: {e.strerror}") from None
                    value = above
                above = value

    # ---- limits ----

    def update(self, resources: Mapping[str, Any]) -> None:
        """Change the limits of a living group; sections that are absent stay as they are. `devices` replaces the whole list."""
        given = dict(resources)
        check(given)
        memory = given.get("memory") or {}
        if memory.get("checkBeforeUpdate") and memory.get("limit") and memory["limit"] > 0:
            usage = files.read_int(self._dir("memory") + "/memory.usage_in_bytes")
            if usage is None:
                usage = files.read_int(self._dir("memory") + "/memory.current")
            if usage is not None and usage > memory["limit"]:
                raise Conflict(f"memory limit {memory['limit']} is below the current usage {usage}")
        self._set(given, update=True)

    def _v2_holds(self, controller: str) -> bool:
        if controller.startswith("unified:"):
            return True
        return controller not in self.paths and (controller in _V2_WANTED) and UNIFIED in self.paths

    def _dir(self, controller: str) -> str:
        """Where `controller`'s files are; "" when nowhere."""
        if controller in V1_CONTROLLERS and controller in self.paths:
            return self.paths[controller]
        return self.paths.get(UNIFIED, "")

    def _writes(self, resources: Mapping[str, Any]) -> list[Write]:
        given = {k: v for k, v in resources.items() if k != "devices"}
        if not any(c in V1_CONTROLLERS for c in self.paths) and UNIFIED in self.paths:
            return v2_writes(given)
        new: dict[str, Any] = {}
        unified = self.layout.unified.controllers if self.layout is not None and self.layout.unified is not None else ()
        for section, (v1_name, v2_name) in _SECTIONS.items():
            if section in given and v1_name not in self.paths and v2_name in unified:
                new[section] = given.pop(section)
        return v1_writes(given) + huge_writes(given, 1 if "hugetlb" in self.paths else 2) + v2_writes(new)

    def _set(self, resources: Mapping[str, Any], *, update: bool) -> None:
        late: list[Write] = []
        for w in self._writes(resources):
            try:
                self._apply(w)
            except InvalidArgument:
                # A pair such as limit and limit+swap, or period and quota, must at no moment contradict itself: the other one first.
                if not update:
                    raise
                late.append(w)
        for w in late:
            self._apply(w)
        rules = resources.get("devices")
        if rules:
            self._set_devices(DeviceRules.parse(rules))

    def _apply(self, w: Write) -> None:
        controller = w.controller.removeprefix("unified:")
        directory = self.paths.get(UNIFIED, "") if controller != w.controller else self._dir(controller)
        if not directory:
            raise self._cant(w.what, controller)
        names, values = w.file.split("|"), w.value.split("|")
        i = 0
        while i < len(names) - 1 and not os.path.exists(f"{directory}/{names[i]}"):
            i += 1
        path, value = f"{directory}/{names[i]}", values[min(i, len(values) - 1)]
        try:
            files.write(path, value)
        except FileNotFoundError:
            raise self._cant(w.what, controller, names[i]) from None
        except OSError as e:
            text = f"{w.what}: {value} is refused by the kernel ({names[i]}: {e.strerror})"
            if e.errno in (errno.EINVAL, errno.ERANGE):
                raise InvalidArgument(text) from None
            if e.errno == errno.EBUSY and controller == "memory":
                usage = files.read_int(f"{directory}/memory.usage_in_bytes")
                raise Conflict(f"{w.what}: unable to set to {value} (current usage: {usage})") from None
            if e.errno in (errno.EOPNOTSUPP, errno.ENODEV, *files.NO_RIGHT):
                raise NotSupported(text) from None
            raise StartError(text) from None

    def _cant(self, what: str, controller: str, file: str = "") -> LaminaError:
        why = self._missing.get(controller)
        if why is None and file and os.path.isdir(self._dir(controller)):
            if what == "memory swap limit":
                why = "swap accounting is off or not in this kernel"
            else:
                why = f"there is no {file} in {self._dir(controller)}"
        return NotSupported(f"{what} can't be applied: " + (why or f"no cgroup controller {controller} is mounted here"))

    def _set_devices(self, rules: DeviceRules) -> None:
        directory = self.paths.get("devices")
        if directory is not None:
            for file, line in rules.v1_writes():
                try:
                    files.write(f"{directory}/{file}", line)
                except OSError as e:
                    raise NotSupported(f"device rule `{line}` can't be applied: {file}: {e.strerror}") from None
            return
        directory = self.paths.get(UNIFIED)
        problem = self._missing.get("devices", "no device controller is mounted here")
        if directory is not None:
            from lamina.linux import bpf

            try:
                bpf.set_device_program(directory, bpf.device_program(rules.default_allow, list(rules.exceptions.items())))
                return
            except OSError as e:
                problem = f"BPF: {e.strerror}"
        # In a user namespace of its own the kernel makes no device usable anyway, and nobody may load this kind of program.
        if not _in_user_namespace():
            raise NotSupported(f"device rules can't be applied: {problem}")

    # ---- entering ----

    def prepare_enter(self, *, cloned_into: bool = False) -> list[int]:
        """Open fds (close-on-exec) by which a child enters after its mount namespace or credentials changed: the kernel checks the
        rights of the opener. `cloned_into`: the child was made with CLONE_INTO_CGROUP and `clone_fd`, so the v2 tree is left out (that
        saves 8 ms)."""
        fds: list[int] = []
        try:
            seen = set()
            for name, directory in self.paths.items():
                if directory in seen or (name == UNIFIED and cloned_into):
                    continue
                seen.add(directory)
                fds.append(os.open(directory + ("/cgroup.procs" if name == UNIFIED else "/tasks"), os.O_WRONLY | os.O_CLOEXEC))
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def clone_fd(self) -> int:
        """An fd of the group in the v2 tree for clone3's CLONE_INTO_CGROUP, or -1; the caller closes it."""
        directory = self.paths.get(UNIFIED)
        return -1 if directory is None else os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def enter_self(self, *, cloned_into: bool = False) -> None:
        """Move the calling, single-threaded process into the group."""
        enter_fds(self.prepare_enter(cloned_into=cloned_into))

    # ---- processes ----

    def _tracker(self) -> str:
        """The hierarchy to list processes from: one that every entered process is in, the freezer's by preference."""
        for name in ("freezer", "pids", "devices", "memory"):
            if name in self.paths:
                return self.paths[name]
        return next(iter(self.paths.values()), "")

    def procs(self) -> list[int]:
        """All pids in the group and in groups made below it."""
        directory = self._tracker()
        return files.procs_of(directory) if directory else []

    def signal(self, number: int) -> int:
        """Send a signal to every process once; how many got it. Each pid is re-checked to be in the group after it was opened."""
        sent, listed = 0, self.procs()
        while listed:
            batch, listed = listed[:_BATCH], listed[_BATCH:]
            opened: list[tuple[int, int]] = []
            try:
                for pid in batch:
                    try:
                        opened.append((pid, os.pidfd_open(pid)))
                    except OSError:
                        pass  # gone since
                still = set(self.procs())
                for pid, fd in opened:
                    if pid in still:  # else recycled between listing and opening
                        try:
                            ns.pidfd_send_signal(fd, number)
                            sent += 1
                        except ProcessLookupError:
                            pass
            finally:
                for _, fd in opened:
                    os.close(fd)
        return sent

    def kill(self, timeout: float = 10.0) -> None:
        """SIGKILL until nobody is left; Conflict when someone still is after `timeout` seconds (stuck in the kernel)."""
        if not self.paths:
            return
        unified = self.paths.get(UNIFIED)
        for round_, _ in enumerate(files.pauses(timeout)):
            if unified is not None:
                try:
                    files.write(unified + "/cgroup.kill", "1")  # all at once, forks included; absent before 5.14
                except OSError:
                    pass
            if not self.procs():
                return
            # The first round hits the usual case without freezing; what forks faster than we list is stopped first.
            frozen = round_ > 0 and self._freeze_quietly()
            self.signal(_SIGKILL)
            if frozen or round_ == 0:
                self._thaw_quietly()  # a frozen process doesn't die
        left = self.procs()
        if left:
            raise Conflict(f"cgroup {self.path}: processes don't die: {left[:10]}")

    def _freeze_quietly(self) -> bool:
        try:
            self.freeze(0.2)
        except (LaminaError, OSError):
            return False
        return True

    def _thaw_quietly(self) -> None:
        try:
            self.thaw()
        except (LaminaError, OSError):
            pass  # no freezer, or gone: then nothing is frozen

    # ---- freezing ----

    def freeze(self, timeout: float = 10.0) -> None:
        """Stop all processes; returns when they are stopped. On failure they run again."""
        v1 = self.paths.get("freezer")
        if v1 is not None:

            def settled() -> bool:
                files.write(v1 + "/freezer.state", "FROZEN")  # again each round: a task that forked meanwhile is caught
                return files.read(v1 + "/freezer.state").strip() == "FROZEN"
        elif UNIFIED in self.paths:
            v2 = self.paths[UNIFIED]
            files.write(v2 + "/cgroup.freeze", "1")

            def settled() -> bool:
                return "frozen 1" in files.read(v2 + "/cgroup.events")
        else:
            raise NotSupported("pause can't be done: no cgroup freezer is mounted here")
        if not files.wait_for(settled, timeout):
            self.thaw()
            raise Conflict(f"cgroup {self.path}: its processes can't be frozen")

    def thaw(self) -> None:
        if "freezer" in self.paths:
            files.write(self.paths["freezer"] + "/freezer.state", "THAWED")
        elif UNIFIED in self.paths:
            files.write(self.paths[UNIFIED] + "/cgroup.freeze", "0")
        else:
            raise NotSupported("unpause can't be done: no cgroup freezer is mounted here")

    def frozen(self) -> bool:
        if "freezer" in self.paths:
            return files.read_or(self.paths["freezer"] + "/freezer.state").strip() in ("FROZEN", "FREEZING")
        return UNIFIED in self.paths and files.read_or(self.paths[UNIFIED] + "/cgroup.freeze").strip() == "1"

    # ---- what happened ----

    def oom_killed(self) -> bool:
        """Whether the kernel killed a process of the group for memory; ask before `remove`."""
        if "memory" in self.paths:
            return files.read_keyed(self.paths["memory"] + "/memory.oom_control").get("oom_kill", 0) > 0
        if UNIFIED in self.paths:
            return files.read_keyed(self.paths[UNIFIED] + "/memory.events").get("oom_kill", 0) > 0
        return False

    def stats(self) -> dict[str, Any]:
        """Usage now, in the shape of `lamina-runtime events --stats` (see stats.py)."""
        from lamina.runtime.cgroups.stats import read_stats

        return read_stats(self)

    def remove(self, *, timeout: float = 2.0, parents: int = 0) -> None:
        """Remove the group and all below it everywhere, and up to `parents` levels of then empty parents. Gone already is fine; processes
        that stay longer than `timeout` seconds are a Conflict."""
        stuck = ""
        for directory in dict.fromkeys(self.paths.values()):
            if not files.remove_tree(directory, timeout):
                stuck = stuck or directory
        if stuck:
            raise Conflict(f"cgroup {stuck} has processes still: {files.procs_of(stuck)[:10]}")
        for directory in dict.fromkeys(self.paths.values()):
            for parent in list(reversed(self._ancestors(directory)[1:]))[:parents]:
                try:
                    os.rmdir(parent)
                except OSError:
                    break  # others live there, or it has gone


def missing_parents(path: str, layout: Layout) -> int:
    """How many of a group's direct parents `create` will have to make; for `remove`, which then takes them away again."""
    parts = check_path(path)[1:].split("/")[:-1]
    count = 0
    while parts and not any(os.path.isdir(f"{base}/{'/'.join(parts)}") for h in layout.hierarchies for base in h.bases()):
        parts.pop()
        count += 1
    return count


def enter_fds(fds: Iterable[int]) -> None:
    """Write "0" (the caller itself) to each fd of `prepare_enter`, and close it."""
    problem: OSError | None = None
    for fd in fds:
        try:
            os.write(fd, b"0")
        except OSError as e:
            problem = problem or e
        finally:
            os.close(fd)
    if problem is not None:
        raise OSError(problem.errno, problem.strerror, "cgroup (entering)")


def _in_user_namespace() -> bool:
    words = files.read_or("/proc/self/uid_map").split()
    return words[:3] != ["0", "0", "4294967295"]
