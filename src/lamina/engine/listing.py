# SPDX-License-Identifier: Apache-2.0
"""`ps`: the rows of the store joined with what the monitors say, as the API's ContainerSummary. [hot]"""

from __future__ import annotations

import time

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.containers.store import Record

STATUSES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
HEALTH = ("none", "starting", "healthy", "unhealthy")
BOOLEANS = ("true", "1", "false", "0")
FILTERS = (
    "ancestor",
    "before",
    "exited",
    "id",
    "is-task",
    "label",
    "name",
    "network",
    "publish",
    "expose",
    "since",
    "status",
    "volume",
    "health",
)


def status_text(state: State, now: float) -> str:
    """docker's Status column: "Up 2 hours", "Exited (0) 3 minutes ago", "Created"."""
    from lamina.util.sizes import human_duration

    if state.status == "created":
        return "Created"
    if state.status == "restarting":
        return f"Restarting ({state.exit_code}) {human_duration(now - state.finished_at / 1e9)} ago"
    if state.status in ("running", "paused"):
        text = "Up " + human_duration(now - state.started_at / 1e9)
        if state.status == "paused":
            return text + " (Paused)"
        return f"{text} ({'health: ' if state.health == 'starting' else ''}{state.health})" if state.health else text
    if state.status == "dead":
        return "Dead"
    if state.status == "removing":
        return "Removal In Progress"
    return f"Exited ({state.exit_code}) {human_duration(now - state.finished_at / 1e9)} ago"


def command_text(config: dict[str, Any]) -> str:
    """Path and arguments in one line, as docker's `ps` shows it: an argument with a blank is in single quotes."""
    words = [*(config["Entrypoint"] or []), *(config["Cmd"] or [])]
    return " ".join(f"'{w}'" if i and " " in w else w for i, w in enumerate(words))


def summary(record: Record, state: State, *, image_name: str, address: tuple[str, str] | None) -> dict[str, Any]:
    config, host = record.config["Config"], record.config["HostConfig"]
    ip, mac = address or ("", "")
    return {
        "Id": record.id,
        "Names": ["/" + record.name],
        "Image": image_name,
        "ImageID": record.image_id,
        "Command": command_text(config),
        "Created": record.created_ns // 1_000_000_000,
        "Ports": [],
        "Labels": config["Labels"] or {},
        "State": state.status,
        "Status": status_text(state, time.time()),
        "HostConfig": {"NetworkMode": host["NetworkMode"]},
        "NetworkSettings": {"Networks": {host["NetworkMode"]: {"IPAddress": ip, "MacAddress": mac}}},
        "Mounts": [shown(m) for m in record.config.get("Mounts", [])],
    }  # fmt: skip


def shown(point: dict[str, Any]) -> dict[str, Any]:
    """A mount point as the API shows it."""
    keys = ("Type", "Name", "Source", "Destination", "Driver", "Mode", "RW", "Propagation")
    return {k: point[k] for k in keys if k in point and (k not in ("Name", "Driver") or point["Type"] == "volume")}


def check_filters(filters: dict[str, list[str]]) -> None:
    for name in filters:
        if name not in FILTERS:
            raise InvalidArgument(f"invalid filter '{name}'")
    for value in filters.get("status", []):
        if value not in STATUSES:
            raise InvalidArgument(f"invalid filter 'status={value}'")
    for value in filters.get("exited", []):
        if not value.lstrip("-").isdigit():
            raise InvalidArgument(f"invalid filter 'exited={value}': strconv.Atoi: parsing \"{value}\": invalid syntax")
    for value in filters.get("health", []):
        if value not in HEALTH:
            raise InvalidArgument(f"unrecognized filter value for health: {value}")
    for value in filters.get("is-task", []):
        if value not in BOOLEANS:
            raise InvalidArgument(f"invalid filter 'is-task=[{value}]'")


def keep(row: dict[str, Any], state: State, filters: dict[str, list[str]]) -> bool:
    """Whether a summary passes the filters that need no other object (ancestor, before and since are the caller's)."""
    if "id" in filters and not any(row["Id"].startswith(v) for v in filters["id"]):
        return False
    if "name" in filters:
        import re

        # docker takes a regular expression, with or without the leading slash of the name; one that is none matches nothing
        try:
            if not any(re.search(v, row["Names"][0]) or re.search(v, row["Names"][0][1:]) for v in filters["name"]):
                return False
        except re.error:
            return False
    if "status" in filters and row["State"] not in filters["status"]:
        return False
    if "exited" in filters and (row["State"] != "exited" or str(state.exit_code) not in filters["exited"]):
        return False
    for wanted in filters.get("label", []):
        key, eq, value = wanted.partition("=")
        if key not in row["Labels"] or (eq and row["Labels"][key] != value):
            return False
    if "network" in filters and not any(v in row["NetworkSettings"]["Networks"] for v in filters["network"]):
        return False
    if "volume" in filters and not any(v in (m.get("Name"), m["Destination"]) for v in filters["volume"] for m in row["Mounts"]):
        return False
    if "health" in filters and (state.health or "none") not in filters["health"]:
        return False
    if "publish" in filters or "expose" in filters:
        from . import ports

        if not ports.keep(row["Ports"], filters):
            return False
    return not ("is-task" in filters and {"true", "1"} & set(filters["is-task"]))
