# SPDX-License-Identifier: Apache-2.0
"""Makes, tags and removes images, makes and removes containers, on a disk whose power will be cut; says on that disk what it was told.

Run inside the virtual machine: writer.py CHECKOUT FS ROOT RUNROOT OPERATIONS. /dev/vdb holds a file system of FS_BYTES and behind it an
area of marks. A mark is written past all caches but the drive's, without a flush, at once when a command has said that something is
done: so a disk that has the mark but not what it says has lost what was acknowledged. Copies, as a drive may lose any unflushed write.
"""
from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import random
import stat
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FS_BYTES = 400 << 20
MARK_BYTES, COPIES, MAX_MARKS = 4096, 3, 1024
DISK_BYTES = FS_BYTES + MARK_BYTES * COPIES * MAX_MARKS
BUSYBOX = Path("/bin/busybox")


def read_marks(disk: str) -> list[dict[str, Any]]:
    """The marks of a disk image in order, as far as the last one that is there; {} for one of which every copy was lost."""
    found: list[dict[str, Any]] = []
    with open(disk, "rb") as file:
        file.seek(FS_BYTES)
        for _ in range(MAX_MARKS):
            copies = [file.read(MARK_BYTES).rstrip(b"\0") for _copy in range(COPIES)]
            whole = [copy for copy in copies if copy]
            found.append(json.loads(whole[0]) if whole else {})
    while found and not found[-1]:
        found.pop()
    return found


def manifest(directory: str) -> str:
    """A digest of a tree: names, kinds, modes, owners, times, links, devices, xattrs, contents."""
    lines = []
    for path in [directory, *_walk(directory)]:
        status = os.lstat(path)
        line = [os.path.relpath(path, directory), status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns]
        if stat.S_ISREG(status.st_mode):
            line += [status.st_size, hashlib.sha256(Path(path).read_bytes()).hexdigest(), status.st_nlink]
        elif stat.S_ISLNK(status.st_mode):
            line.append(os.readlink(path))
        elif not stat.S_ISDIR(status.st_mode):
            line.append(status.st_rdev)
        line += [(name, os.getxattr(path, name, follow_symlinks=False).hex()) for name in sorted(os.listxattr(path, follow_symlinks=False))]
        lines.append(json.dumps(line))
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _walk(directory: str) -> Iterator[str]:
    for entry in os.scandir(directory):
        yield entry.path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)


class Marks:
    """What has happened, in one order for all workers."""

    def __init__(self, device: str) -> None:
        self.fd = os.open(device, os.O_WRONLY | os.O_DIRECT)
        self.block = mmap.mmap(-1, MARK_BYTES)  # aligned, as O_DIRECT wants it
        self.count = 0
        self.lock = threading.Lock()

    def add(self, **what: object) -> None:
        with self.lock:
            data = json.dumps(what).encode()
            self.block[:] = data + bytes(MARK_BYTES - len(data))
            for copy in range(COPIES):
                os.pwrite(self.fd, self.block, FS_BYTES + (self.count * COPIES + copy) * MARK_BYTES)
            self.count += 1
        print(json.dumps(what), flush=True)


class Worker:
    """Does one random thing after another to images of its own, named after it."""

    def __init__(self, number: int, checkout: str, root: str, runroot: str, marks: Marks) -> None:
        self.number = number
        self.prefix = [f"{checkout}/bin/lamina", "--root", root, "--runroot", runroot]
        self.marks = marks
        self.dice = random.Random(number)
        self.images: list[tuple[str, str]] = []  # (name, id), the first one of busybox
        self.bases: list[str] = []  # names of what containers can run from
        self.count = 0
        self.archive = Path(f"/var/tmp/archive{number}.tar")

    def lamina(self, *args: str, stdin: bytes = b"") -> str:
        done = subprocess.run([*self.prefix, *args], input=stdin, stdout=subprocess.PIPE, check=True)
        return done.stdout.decode().strip()

    def told(self, what: str, name: str, *args: str, id: str = "", stdin: bytes = b"") -> str:
        """Runs a command; the mark of its end is written as soon as its first line is there, or, if it says nothing, at its exit."""
        self.marks.add(at="begin", what=what, name=name, id=id)
        command = subprocess.Popen([*self.prefix, *args], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert command.stdin and command.stdout
        feeder = threading.Thread(target=_feed, args=(command.stdin, stdin))
        feeder.start()
        line = command.stdout.readline().decode().strip()
        if line or command.wait() == 0:
            self.marks.add(at="end", what=what, name=name, id=id or line)
        command.stdout.read()
        feeder.join()
        if command.wait() != 0:
            raise RuntimeError(f"{args}: exit {command.returncode}")
        return line

    def make(self, what: str, *args: str, stdin: bytes = b"") -> str:
        """Import or commit under a new name, which is returned; then a mark of how its topmost layer looks."""
        name = f"w{self.number}-{self.count}"
        self.count += 1
        self.images.append((name, self.told(what, name, *args, name, stdin=stdin)))
        tree = self.lamina("layer", "path", name).splitlines()[0]  # the topmost
        self.marks.add(at="tree", key=Path(tree).parent.name, tree=manifest(tree))
        return name

    def work(self, operations: int) -> None:
        self.bases.append(self.make("import", "import", "-", stdin=busybox_tar()))
        for _ in range(operations):
            what = self.dice.choice(["import", "import", "again", "commit", "commit", "rmi", "rmi", "tag"])
            if what == "import":
                self.archive.write_bytes(some_tar(self.dice))
                self.make("import", "import", "-", stdin=self.archive.read_bytes())
            elif what == "again" and self.archive.exists():
                self.make("import", "import", str(self.archive))
            elif what == "commit":
                self.commit()
            elif what == "tag":
                name, image = self.dice.choice(self.images)
                self.told("tag", f"t{self.number}", "tag", name, f"t{self.number}", id=image)
            elif what == "rmi" and len(self.images) > 1:
                name, image = self.images.pop(self.dice.randrange(1, len(self.images)))
                self.bases = [base for base in self.bases if base != name]
                self.told("rmi", name, "rmi", name, id=image)

    def commit(self) -> None:
        """Of a container that was written to by `cp`, or that is writing still."""
        container, base = f"c{self.number}", self.dice.choice(self.bases)
        if self.dice.random() < 0.3:
            script = "n=0; while :; do n=$((n+1)); seq $n 200 >/root/$n; rm -rf /tmp/x; mkdir /tmp/x; done"
            self.told("run", container, "run", "-d", "--name", container, "--network", "none", base, "sh", "-c", script)
        else:
            self.told("create", container, "create", "--name", container, "--network", "none", base, "sh")
        self.lamina("cp", "-", f"{container}:/root", stdin=some_tar(self.dice))
        self.bases.append(self.make("commit", "commit", container))
        self.told("rm", container, "rm", "-f", container)


def _feed(pipe: Any, data: bytes) -> None:
    with pipe:
        pipe.write(data)


def busybox_tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
            add(tar, name, tarfile.DIRTYPE, mode=0o755)
        add(tar, "bin/busybox", tarfile.REGTYPE, BUSYBOX.read_bytes(), mode=0o755)
        for name in ("sh", "seq", "rm", "mkdir", "true"):
            add(tar, "bin/" + name, tarfile.LNKTYPE, linkname="bin/busybox", mode=0o755)
    return out.getvalue()


def some_tar(dice: random.Random) -> bytes:
    """A few or hundreds of files, small and not, with what a tar can hold besides."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        top = f"d{dice.randrange(3)}"
        add(tar, top, tarfile.DIRTYPE, mode=0o1777)
        for n in range(dice.choice([3, 30, 300])):
            data = dice.randbytes(dice.choice([0, 10, 5000, 5000, 40000]))
            add(tar, f"{top}/f{n}", tarfile.REGTYPE, data, mode=dice.choice([0o644, 0o4755]), uid=dice.randrange(3),
                pax={"SCHILY.xattr.user.n": str(n)} if n % 7 == 0 else {})
        add(tar, top + "/big", tarfile.REGTYPE, dice.randbytes(1 << 10) * dice.choice([1, 500, 3000]))
        add(tar, top + "/hard", tarfile.LNKTYPE, linkname=top + "/big")
        add(tar, top + "/soft", tarfile.SYMTYPE, linkname="/nowhere")
        add(tar, top + "/null", tarfile.CHRTYPE, mode=0o666)
    return out.getvalue()


def add(tar: tarfile.TarFile, name: str, kind: bytes, data: bytes = b"", *, mode: int = 0o644, uid: int = 0, linkname: str = "",
        pax: dict[str, str] | None = None) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.uid, info.gid, info.linkname, info.size = kind, mode, uid, uid, linkname, len(data)
    info.mtime, info.pax_headers = 1_600_000_000, pax or {}
    info.devmajor, info.devminor = (1, 3) if kind == tarfile.CHRTYPE else (0, 0)
    tar.addfile(info, io.BytesIO(data))


def main() -> None:
    checkout, fs, disk, root, runroot, operations = sys.argv[1:]
    os.makedirs(disk)
    subprocess.run(["mount", "-t", fs, "/dev/vdb", disk], check=True)
    # Dirty pages are written after a second, so that there is something on the disk that nobody has synced.
    Path("/proc/sys/vm/dirty_writeback_centisecs").write_text("30")
    Path("/proc/sys/vm/dirty_expire_centisecs").write_text("100")
    marks = Marks("/dev/vdb")
    workers = [Worker(n, checkout, root, runroot, marks) for n in range(2)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda worker: worker.work(int(operations)), workers))
    marks.add(at="done")


if __name__ == "__main__":
    main()
