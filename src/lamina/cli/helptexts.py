# SPDX-License-Identifier: Apache-2.0
"""The words of --help. Keys of SHORTS, IN_OUT, FLAGS and HIDDEN are the targets of `cli.registry`."""
from __future__ import annotations

GROUP_SHORTS = {
    "container": "Manage containers",
    "image": "Manage images",
    "layer": "Look at layers",
    "system": "Manage lamina",
    "volume": "Manage volumes",
}

SHORTS = {
    "archives:load": "Load images from an archive or STDIN",
    "archives:save": "Save one or more images to an archive (streamed to STDOUT by default)",
    "completion:completion": "Generate the autocompletion script for the specified shell",
    "cp:cp": "Copy files/folders between a container and the local filesystem",
    "exec:exec": "Execute a command in a running container",
    "images:history": "Show the history of an image",
    "images:ls": "List images",
    "images:mount": "Mount the union view of images read-only on the host",
    "images:prune": "Remove unused images",
    "images:rm": "Remove one or more images",
    "images:tag": "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    "images:umount": "Unmount images that were mounted on the host",
    "inspect:container": "Display detailed information on one or more containers",
    "inspect:image": "Display detailed information on one or more images",
    "inspect:inspect": "Return low-level information on Docker objects",
    "layers:ls": "List the read-only layers and the images that use them",
    "layers:path": "Print the directories on the host that hold the layers, the top one first",
    "layers:tree": "Show which layer stands on which",
    "lifecycle:kill": "Kill one or more running containers",
    "lifecycle:rm": "Remove one or more containers",
    "lifecycle:start": "Start one or more stopped containers",
    "lifecycle:stop": "Stop one or more running containers",
    "lifecycle:wait": "Block until one or more containers stop, then print their exit codes",
    "logs:logs": "Fetch the logs of a container",
    "manage:attach": "Attach local standard input, output, and error streams to a running container",
    "manage:pause": "Pause all processes within one or more containers",
    "manage:prune": "Remove all stopped containers",
    "manage:rename": "Rename a container",
    "manage:restart": "Restart one or more containers",
    "manage:top": "Display the running processes of a container",
    "manage:unpause": "Unpause all processes within one or more containers",
    "manage:update": "Update configuration of one or more containers",
    "mounts:mount": "Mount the union of one or more containers on the host, or list what is mounted",
    "mounts:umount": "Unmount what `mount` has mounted",
    "port:port": "List port mappings or a specific mapping for the container",
    "ps:ps": "List containers",
    "run:create": "Create a new container",
    "run:run": "Create and run a new container from an image",
    "system:adopt": "Take over a data root that was moved (its new place: --root, --runroot)",
    "system:boot": "Start what was running at the last shutdown, by its restart policy (for the host's start)",
    "system:check": "Check that the store is whole, and repair it",
    "system:info": "Display system-wide information",
    "system:reset": "Remove everything of this engine: containers, images, volumes, bridge, firewall table, both roots",
    "system:version": "Show the lamina version information",
    "transfer:commit": "Create a new image from a container's changes",
    "transfer:diff": "Inspect changes to files or directories on a container's filesystem",
    "transfer:export": "Export a container's filesystem as a tar archive",
    "transfer:import": "Import the contents from a tarball to create a filesystem image",
    "usage:df": "Show what images, containers and volumes take on disk",
    "usage:prune": "Remove unused data",
    "volumes:create": "Create a volume",
    "volumes:inspect": "Display detailed information on one or more volumes",
    "volumes:ls": "List volumes",
    "volumes:prune": "Remove unused local volumes",
    "volumes:rm": "Remove one or more volumes",
    "watch:events": "Get real time events from the engine",
    "watch:stats": "Display a live stream of container(s) resource usage statistics",
}

# What goes in and what comes out (docs/tour): the first line of a verb's help.
IN_OUT = {
    "manage:pause": "freezes the process space by cgroup, not by signals",
    "manage:unpause": "lets a frozen process space go on",
    "completion:completion": "a script for bash, zsh or fish; e.g. source <(lamina completion bash)",
    "cp:cp": (
        "files of a container, running or not <-> files of the host\n"
        "(-: a tar from stdin, put into a directory, or a tar to stdout; DIR/.: what is in a directory)"
    ),
    "exec:exec": "a further process in a running process space",
    "images:history": "image -> the layers below it",
    "images:ls": (
        "top-level images (tagged, pulled, or used); -a: intermediate ones that only children use, too\n"
        "(`layer ls` lists every read-only layer with the images that use it)"
    ),
    "images:rm": (
        "by name: removes the tag, and the image with it unless a child has it as Parent;\n"
        "by id, or the last name while a container uses it: refuses, naming the user (-f);\n"
        "layers go when nothing needs them, shared ones never stand in the way"
    ),
    "inspect:container": "top layer's metadata, of a container",
    "inspect:image": "top layer's metadata, of an image",
    "inspect:inspect": "top layer's metadata, of a container or an image",
    "lifecycle:kill": "SIGKILL (or -s SIGNAL)",
    "lifecycle:rm": "removes the read-write layer of a stopped container (-f: of a running one)",
    "lifecycle:start": "container -> process space around its union view (one per container)",
    "lifecycle:stop": "SIGTERM, then SIGKILL after a grace time; leaves a normal container",
    "mounts:mount": "container -> its union view at a path of the host, to look at and to write to (running or not)",
    "mounts:umount": "takes the union of a container that doesn't run off its path again; its layers stay",
    "ps:ps": "ps / ps -a: running / all containers",
    "run:create": "image -> container (adds the read-write layer; runs nothing)",
    "run:run": "create + start",
    "archives:load": "archive of images, with layers and metadata -> images (`save` writes one)",
    "archives:save": "images -> archive with all their layers and metadata (`load` reads it)",
    "transfer:commit": "running or stopped container -> image",
    "transfer:export": "container's union view -> flat tar, no metadata (`import` makes a one-layer image of it)",
    "transfer:import": "flat tar, no metadata -> one-layer image (`export` writes one)",
}

FORMAT = (
    "Format output using a custom template:\n"
    "'table': Print output in table format with column headers (default)\n"
    "'table TEMPLATE': Print output in table format using the given Go template\n"
    "'json': Print in JSON format\n"
    "'TEMPLATE': Print output using the given Go template."
)
FORMAT_ONE = "Format output using a custom template:\n'json': Print in JSON format\n'TEMPLATE': Print output using the given Go template."

# The same words wherever the flag is.
COMMON = {
    "detach": "Run container in background and print container ID",
    "detach-keys": "Override the key sequence for detaching a container",
    "env": "Set environment variables",
    "env-file": "Read in a file of environment variables",
    "sig-proxy": "Proxy received signals to the process",
    "filter": "Filter output based on conditions provided",
    "format": FORMAT,
    "interactive": "Keep STDIN open even if not attached",
    "no-trunc": "Don't truncate output",
    "signal": "Signal to send to the container",
    "tty": "Allocate a pseudo-TTY",
    "workdir": "Working directory inside the container",
}

_CREATE = {
    "cap-add": "Add Linux capabilities",
    "cap-drop": "Drop Linux capabilities",
    "cpus": "Number of CPUs",
    "entrypoint": "Overwrite the default ENTRYPOINT of the image",
    "expose": "Expose a port or a range of ports",
    "hostname": "Container host name",
    "label": "Set meta data on a container",
    "memory": "Memory limit",
    "name": "Assign a name to the container",
    "network": "Connect a container to a network",
    "pids-limit": "Tune container pids limit (set -1 for unlimited)",
    "privileged": "Give extended privileges to this container",
    "publish": "Publish a container's port(s) to the host",
    "publish-all": "Publish all exposed ports to random ports",
    "read-only": "Mount the container's root filesystem as read only",
    "rm": "Automatically remove the container and its associated anonymous volumes when it exits",
    "user": "Username or UID (format: <name|uid>[:<group|gid>])",
    "volume": "Bind mount a volume",
    "add-host": "Add a custom host-to-IP mapping (host:ip)",
    "attach": "Attach to STDIN, STDOUT or STDERR",
    "cgroupns": "Cgroup namespace to use (host|private)\n'host':    Run the container in the host's cgroup namespace\n"
    "'private': Run the container in its own private cgroup namespace",
    "cidfile": "Write the container ID to the file",
    "cpu-period": "Limit CPU CFS (Completely Fair Scheduler) period",
    "cpu-quota": "Limit CPU CFS (Completely Fair Scheduler) quota",
    "cpu-shares": "CPU shares (relative weight)",
    "cpuset-cpus": "CPUs in which to allow execution (0-3, 0,1)",
    "cpuset-mems": "MEMs in which to allow execution (0-3, 0,1)",
    "device": "Add a host device to the container",
    "device-cgroup-rule": "Add a rule to the cgroup allowed devices list",
    "dns": "Set custom DNS servers",
    "dns-opt": "Set DNS options",
    "dns-option": "Set DNS options",
    "dns-search": "Set custom DNS search domains",
    "domainname": "Container NIS domain name",
    "env-file": "Read in a file of environment variables",
    "group-add": "Add additional groups to join",
    "ip": "IPv4 address (e.g., 172.30.100.104)",
    "ipc": "IPC mode to use",
    "label-file": "Read in a line delimited file of labels",
    "log-driver": "Logging driver for the container",
    "log-opt": "Log driver options",
    "mac-address": "Container MAC address (e.g., 92:d0:c6:0a:29:33)",
    "memory-reservation": "Memory soft limit",
    "memory-swap": "Swap limit equal to memory plus swap: '-1' to enable unlimited swap",
    "memory-swappiness": "Tune container memory swappiness (0 to 100)",
    "mount": "Attach a filesystem mount to the container",
    "oom-kill-disable": "Disable OOM Killer",
    "oom-score-adj": "Tune host's OOM preferences (-1000 to 1000)",
    "pid": "PID namespace to use",
    "platform": "Set platform if server is multi-platform capable",
    "pull": 'Pull image before running ("always", "missing", "never")',
    "security-opt": "Security Options",
    "shm-size": "Size of /dev/shm",
    "stop-signal": "Signal to stop the container",
    "stop-timeout": "Timeout (in seconds) to stop a container",
    "sysctl": "Sysctl options",
    "tmpfs": "Mount a tmpfs directory",
    "ulimit": "Ulimit options",
    "uts": "UTS namespace to use",
    "volumes-from": "Mount volumes from the specified container(s)",
    "health-cmd": "Command to run to check health",
    "health-interval": "Time between running the check (ms|s|m|h) (default 0s)",
    "health-retries": "Consecutive failures needed to report unhealthy",
    "health-start-interval": "Time between running the check during the start period (ms|s|m|h) (default 0s)",
    "health-start-period": "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)",
    "health-timeout": "Maximum time to allow one check to run (ms|s|m|h) (default 0s)",
    "ip6": "IPv6 address (e.g., 2001:db8::33)",
    "link-local-ip": "Container IPv4/IPv6 link-local addresses",
    "net-alias": "Add network-scoped alias for the container",
    "network-alias": "Add network-scoped alias for the container",
    "no-healthcheck": "Disable any container-specified HEALTHCHECK",
    "restart": "Restart policy to apply when a container exits",
}
_CHANGE = "Apply Dockerfile instruction to the created image"

FLAGS: dict[str, dict[str, str]] = {
    "cp:cp": {
        "archive": "Archive mode (copy all uid/gid information)",
        "follow-link": "Always follow symbol link in SRC_PATH",
        "quiet": "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    },
    "exec:exec": {
        "detach": "Detached mode: run command in the background",
        "privileged": "Give extended privileges to the command",
        "user": 'Username or UID (format: "<name|uid>[:<group|gid>]")',
    },
    "images:history": {"human": "Print sizes and dates in human readable format", "quiet": "Only show image IDs"},
    "images:ls": {
        "all": "Show all images (default hides intermediate images)",
        "digests": "Show digests",
        "quiet": "Only show image IDs",
    },
    "images:prune": {
        "all": "Remove all unused images, not just dangling ones",
        "filter": 'Provide filter values (e.g. "until=<timestamp>")',
        "force": "Do not prompt for confirmation",
    },
    "images:rm": {"force": "Force removal of the image", "no-prune": "Do not delete untagged parents"},
    "inspect:container": {"format": FORMAT_ONE, "size": "Display total file sizes"},
    "inspect:image": {"format": FORMAT_ONE},
    "inspect:inspect": {
        "format": FORMAT_ONE,
        "size": "Display total file sizes if the type is container",
        "type": "Return JSON for specified type",
    },
    "layers:ls": {"quiet": "Only show layer IDs"},
    "layers:tree": {"ascii": "Draw the tree with ASCII characters only"},
    "lifecycle:rm": {
        "force": "Force the removal of a running container (uses SIGKILL)",
        "link": "Remove the specified link",
        "volumes": "Remove anonymous volumes associated with the container",
    },
    "lifecycle:start": {
        "attach": "Attach STDOUT/STDERR and forward signals",
        "interactive": "Attach container's STDIN",
    },
    "lifecycle:stop": {"time": "Seconds to wait before killing the container"},
    "logs:logs": {
        "details": "Show extra details provided to logs",
        "follow": "Follow log output",
        "since": 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
        "tail": "Number of lines to show from the end of the logs",
        "timestamps": "Show timestamps",
        "until": 'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for 42 minutes)',
    },
    "manage:attach": {
        "detach-keys": "Override the key sequence for detaching a container",
        "no-stdin": "Do not attach STDIN",
        "sig-proxy": "Proxy all received signals to the process",
    },
    "manage:prune": {
        "filter": 'Provide filter values (e.g. "until=<timestamp>")',
        "force": "Do not prompt for confirmation",
    },
    "manage:restart": {"time": "Seconds to wait before killing the container"},
    "manage:update": {
        "cpus": "Number of CPUs",
        "memory": "Memory limit",
        "pids-limit": "Tune container pids limit (set -1 for unlimited)",
        "restart": "Restart policy to apply when a container exits",
        "cpu-period": "Limit CPU CFS (Completely Fair Scheduler) period",
        "cpu-quota": "Limit CPU CFS (Completely Fair Scheduler) quota",
        "cpu-shares": "CPU shares (relative weight)",
        "cpuset-cpus": "CPUs in which to allow execution (0-3, 0,1)",
        "cpuset-mems": "MEMs in which to allow execution (0-3, 0,1)",
        "memory-reservation": "Memory soft limit",
        "memory-swap": "Swap limit equal to memory plus swap: -1 to enable unlimited swap",
    },
    "usage:df": {"verbose": "Show detailed information on space usage"},
    "usage:prune": {
        "all": "Remove all unused images not just dangling ones",
        "filter": 'Provide filter values (e.g. "label=<key>=<value>")',
        "force": "Do not prompt for confirmation",
        "volumes": "Prune anonymous volumes",
    },
    "volumes:create": {
        "driver": "Specify volume driver name",
        "label": "Set metadata for a volume",
        "name": "Specify volume name",
        "opt": "Set driver specific options",
    },
    "volumes:inspect": {"format": FORMAT_ONE},
    "volumes:ls": {
        "filter": 'Provide filter values (e.g. "dangling=true")',
        "quiet": "Only display volume names",
    },
    "volumes:prune": {
        "all": "Remove all unused volumes, not just anonymous ones",
        "filter": 'Provide filter values (e.g. "label=<label>")',
        "force": "Do not prompt for confirmation",
    },
    "volumes:rm": {"force": "Force the removal of one or more volumes"},
    "watch:events": {
        "filter": 'Filter output based on conditions provided',
        "since": "Show all events created since timestamp",
        "until": "Stream events until this timestamp",
    },
    "watch:stats": {
        "all": "Show all containers (default shows just running)",
        "no-stream": "Disable streaming stats and only pull the first result",
    },
    "ps:ps": {
        "all": "Show all containers (default shows just running)",
        "last": "Show n last created containers (includes all states)",
        "latest": "Show the latest created container (includes all states)",
        "quiet": "Only display container IDs",
        "size": "Display total file sizes",
    },
    "run:create": _CREATE,
    "run:run": _CREATE,
    "system:check": {
        "full": "Read every byte of the store, not just what stands where",
        "repair": "Mend what can be mended",
    },
    "system:info": {"format": FORMAT_ONE},
    "system:reset": {"force": "Do not prompt for confirmation"},
    "system:version": {"format": FORMAT_ONE},
    "archives:load": {
        "input": "Read from an archive or a directory, instead of STDIN",
        "keep-blobs": "Keep compressed layers as they are, too: what is saved or pushed again has the same manifest digest",
        "platform": 'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        "quiet": "Suppress the progress output",
    },
    "archives:save": {
        "compression": "How layers are compressed: gzip, zstd (with a level: gzip:9), none. The default depends on the format",
        "format": '"docker-archive", "oci-archive", "oci-dir" or "docker-dir"',
        "output": "Write to a file, instead of STDOUT (a directory for oci-dir and docker-dir)",
        "platform": 'Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
        "preserve-digests": "Fail if the digest of a manifest that an image came with can't be kept",
        "quiet": "Suppress the progress output",
    },
    "transfer:commit": {
        "author": 'Author (e.g., "John Hannibal Smith <hannibal@a-team.com>")',
        "change": _CHANGE,
        "message": "Commit message",
        "pause": "Pause container during commit",
    },
    "transfer:export": {"output": "Write to a file, instead of STDOUT"},
    "transfer:import": {
        "change": _CHANGE,
        "message": "Set commit message for imported image",
        "platform": "Set platform if server is multi-platform capable",
    },
}

# Accepted, not shown: other spellings.
HIDDEN = {
    "run:run": ("net", "dns-opt", "net-alias"), "run:create": ("net", "dns-opt", "net-alias"), "lifecycle:stop": ("timeout",),
    "manage:restart": ("timeout",),
}  # fmt: skip

# The word for a value where the kind's own isn't docker's.
VALUE_WORDS: dict[str, str] = {}

GLOBAL = {
    "debug": "Enable debug mode",
    "explain": "Tell on stderr what is done, step by step, with times (also behind a command)",
    "host": "Daemon socket to connect to (refused: lamina has no daemon)",
    "log-level": 'What stderr tells: "debug" (as --debug), "info", "warn", "error" or "fatal" (no warnings)',
    "root": "Data root (LAMINA_ROOT; default /var/lib/lamina)",
    "runroot": "Directory of run-time state (LAMINA_RUNROOT; default /run/lamina)",
    "version": "Print version information and quit",
}
    "config": "Directory of docker's config.json (DOCKER_CONFIG; default ~/.docker)",
    "context": "Name of the context to use; there is \"default\" alone, as lamina has no daemon",
