# SPDX-License-Identifier: Apache-2.0
"""`version`, `info` and the verbs of `system`."""
from __future__ import annotations

import os
import sys

from lamina import __version__
from lamina.cli.context import Cli
from lamina.cli.flags import Opts, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def facts() -> dict[str, Any]:
    """What `version --format` sees: Client and Server, which are one program here, with docker's field names."""
    machine = os.uname()
    common = {
        "Version": __version__,
        "Os": "linux",
        "Arch": ARCHITECTURES.get(machine.machine, machine.machine),
        "PythonVersion": ".".join(str(n) for n in sys.version_info[:3]),
    }
    details = {"Arch": common["Arch"], "KernelVersion": machine.release, "Os": "linux", "PythonVersion": common["PythonVersion"]}
    engine = {"Name": "Engine", "Version": __version__, "Details": details}
    return {
        "Client": {**common, "Context": "default"},
        "Server": {**common, "Platform": {"Name": ""}, "KernelVersion": machine.release, "Experimental": False, "Components": [engine]},
    }


def _formatted(cli: Cli, template: str, data: dict[str, Any], *, name: str = "") -> None:
    from lamina.cli.formats import show_objects
    from lamina.cli.template_funcs import to_json, typed

    if template == "json":
        cli.out(to_json(typed(data)))
    else:
        show_objects(cli, template, [data], name=name)


def version(cli: Cli, opts: Opts, args: list[str]) -> int:
    data = facts()
    if opts["format"]:
        _formatted(cli, opts["format"], data, name="version")
        return 0
    for part, title in (("Client", "Client:"), ("Server", "\nServer: (no daemon: the same process)")):
        values = data[part]
        cli.out(title)
        cli.out(f" Version:           {values['Version']}")
        cli.out(f" Python version:    {values['PythonVersion']}")
        cli.out(f" OS/Arch:           {values['Os']}/{values['Arch']}")
        if "KernelVersion" in values:
            cli.out(f" Kernel version:    {values['KernelVersion']}")
    return 0


INFO = (
    ("Containers", "Containers"), ("ContainersRunning", " Running"), ("ContainersPaused", " Paused"), ("ContainersStopped", " Stopped"),
    ("Images", "Images"), ("ServerVersion", "Server Version"), ("Driver", "Storage Driver"), ("LoggingDriver", "Logging Driver"),
    ("CgroupDriver", "Cgroup Driver"), ("CgroupVersion", "Cgroup Version"), ("DefaultRuntime", "Default Runtime"), ("Bridge", "Bridge"),
    ("KernelVersion", "Kernel Version"), ("OperatingSystem", "Operating System"), ("OSType", "OSType"), ("Architecture", "Architecture"),
    ("NCPU", "CPUs"), ("MemTotal", "Total Memory"), ("Name", "Name"), ("ID", "ID"), ("DockerRootDir", "Docker Root Dir"),
    ("LaminaRunRoot", "Run Root"),
)  # fmt: skip


def info(cli: Cli, opts: Opts, args: list[str]) -> int:
    client = {"Debug": cli.debug, **facts()["Client"]}
    data = {**cli.engine.system.info(), "ServerVersion": __version__, "ClientInfo": client}
    if opts["format"]:
        _formatted(cli, opts["format"], data)
        return 0
    from .watch import binary_size

    cli.out(f"Client:\n Version:    {__version__}\n Context:    default\n Debug Mode: {str(cli.debug).lower()}\n\nServer:")
    for key, title in INFO:
        value = binary_size(data[key]) if key == "MemTotal" else cli.clean(str(data[key]))
        cli.out(f" {title}: {value}")
    cli.out(" Security Options:")
    for option in data["SecurityOptions"]:
        name, *more = option.split(",")
        cli.out(f"  {name.removeprefix('name=')}")
        for key, _, value in (part.partition("=") for part in more):
            cli.out(f"   {key.title()}: {value}")
    rules = data["ForeignRules"]
    cli.out(f" Firewall rules outside our own table: {len(rules) or 'none'}")
    for rule in rules:
        cli.out(f"  {cli.clean(str(rule))}")
    return 0


def check(cli: Cli, opts: Opts, args: list[str]) -> int:
    """Exit code 0 when every invariant of docs/on-disk.md holds, else 1 with a line a problem."""
    problems = cli.engine.system.check(full=opts["full"], repair=opts["repair"])
    for problem in problems:
        cli.out(cli.clean(str(problem)))
    if not problems:
        cli.out("no problems found")
    return 1 if problems else 0


def reset(cli: Cli, opts: Opts, args: list[str]) -> int:
    from lamina.cli.verbs.images import confirm

    what = f"all containers, images, volumes and all other data of the engine in {cli.root}"
    if not opts["force"] and not confirm(cli, f"WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "):
        return 1
    cli.engine.system.reset()
    return 0


def boot(cli: Cli, opts: Opts, args: list[str]) -> int:
    """For the host's start (a systemd unit, see docs): a line for each container that was started."""
    for name in cli.engine.system.boot():
        cli.out(name)
    return 0


def adopt(cli: Cli, opts: Opts, args: list[str]) -> int:
    from lamina.engine.system import adopt as take

    take(cli.root, cli.runroot)
    return 0


VERBS = {
    "adopt": Verb(adopt, "", 0, 0),
    "boot": Verb(boot, "", 0, 0),
    "version": Verb(version, "[OPTIONS]", 0, 0, (("format", "f", "string", ""),)),
    "info": Verb(info, "[OPTIONS]", 0, 0, (("format", "f", "string", ""),)),
    "reset": Verb(reset, "[OPTIONS]", 0, 0, (("force", "f", "bool", False),)),
    "check": Verb(check, "[OPTIONS]", 0, 0, (("full", "", "bool", False), ("repair", "", "bool", False))),
}
