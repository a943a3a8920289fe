# SPDX-License-Identifier: Apache-2.0
"""Restart policies and health checks: what a request and an image say, checked, and what the monitor is told of it. [hot]

Docker Engine API v1.44: HostConfig.RestartPolicy {"Name","MaximumRetryCount"} and Config.Healthcheck {"Test","Interval","Timeout",
"StartPeriod","StartInterval","Retries"}, times in nanoseconds, 0 for the default. Loaded only for containers that have one of them.
"""

from __future__ import annotations

from lamina.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lamina.containers.state import State
    from lamina.containers.store import Record
    from lamina.store.paths import Paths

POLICIES = ("no", "always", "on-failure", "unless-stopped")
SECOND = 1_000_000_000
SHORTEST = 1_000_000  # docker's: a millisecond
# docker's defaults, from its documentation of HEALTHCHECK
TIMES = {"Interval": 30 * SECOND, "Timeout": 30 * SECOND, "StartPeriod": 0, "StartInterval": 5 * SECOND}
RETRIES = 3


def restart_policy(given: Any, *, auto_remove: bool) -> dict[str, Any]:
    """The policy as `inspect` shows it; InvalidArgument with docker's texts."""
    if not isinstance(given, dict):
        raise InvalidArgument("HostConfig.RestartPolicy must be an object")
    name, count = given.get("Name") or "", given.get("MaximumRetryCount") or 0
    if not isinstance(count, int) or not isinstance(name, str):
        raise InvalidArgument("HostConfig.RestartPolicy: Name must be text and MaximumRetryCount a number")
    if not name:
        return {"Name": "no", "MaximumRetryCount": 0}
    if name not in POLICIES:
        raise InvalidArgument(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if name != "on-failure" and count:
        more = " and cannot be negative" if count < 0 else ""
        raise InvalidArgument("invalid restart policy: maximum retry count can only be used with 'on-failure'" + more)
    if count < 0:
        raise InvalidArgument("invalid restart policy: maximum retry count cannot be negative")
    if auto_remove and name != "no":
        raise InvalidArgument("can't create 'AutoRemove' container with restart policy")
    return {"Name": name, "MaximumRetryCount": count}


def restart_plan(record: Record, before: State) -> dict[str, Any]:
    """For monitor/restarts.py; {} without a policy. `before`: the state that this start follows on; restarts after a lost monitor count."""
    policy = record.config["HostConfig"]["RestartPolicy"]
    if policy["Name"] == "no":
        return {}
    return {
        "name": policy["Name"], "maximum": policy["MaximumRetryCount"], "count": before.restart_count + 1 if before.lost else 0,
        "any_signal": not record.config["Config"]["StopSignal"],
    }  # fmt: skip


def asks_for_restart(policy: dict[str, Any], state: State) -> bool:
    """Whether a container that ended with its monitor is to be started again: it wasn't stopped by anybody."""
    name, maximum = policy["Name"], policy["MaximumRetryCount"]
    return name in ("always", "unless-stopped") or name == "on-failure" and (not maximum or state.restart_count < maximum)


def health_check(given: Any, image: Any, image_ref: str) -> dict[str, Any] | None:
    """The container's Healthcheck: the request's, and what it leaves out from the image's."""
    mine = checked(given or {}, "Config.Healthcheck")
    for key, value in checked(image or {}, f"image {image_ref}: Healthcheck of its config").items():
        if not mine.get(key):
            mine[key] = value
    return {key: mine[key] for key in ("Test", *TIMES, "Retries") if mine.get(key)} or None


def checked(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise InvalidArgument(f"{where} must be an object")
    test = given.get("Test") or []
    if not isinstance(test, list) or not all(isinstance(word, str) and "\0" not in word for word in test):
        raise InvalidArgument(f"{where}: Test must be a list of strings")
    if test and test[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise InvalidArgument(f"{where}: unknown type '{test[0]}' (expected 'CMD', 'CMD-SHELL' or 'NONE')")
    if test and test[0] != "NONE" and len(test) == 1:
        raise InvalidArgument(f"{where}: Test has no command")
    for key in TIMES:
        value = given.get(key) or 0
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidArgument(f"{where}: {key} must be a whole number")
        if value and value < SHORTEST:
            raise InvalidArgument(f"{key} in Healthcheck cannot be less than 1ms")
    retries = given.get("Retries") or 0
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise InvalidArgument("Retries in Healthcheck cannot be negative")
    return dict(given)


def has_check(config: dict[str, Any]) -> bool:
    test = (config.get("Healthcheck") or {}).get("Test") or ["NONE"]
    return bool(test[0] != "NONE")


def health_plan(record: Record, paths: Paths) -> dict[str, Any] | None:
    """For monitor/health.py; None where there is nothing to check."""
    config = record.config["Config"]
    if not has_check(config):
        return None
    check = config["Healthcheck"]
    kind, *words = check["Test"]
    plan = {key: check.get(key) or default for key, default in TIMES.items()}
    plan["Retries"] = check.get("Retries") or RETRIES
    plan["argv"] = words if kind == "CMD" else [*(config["Shell"] or ("/bin/sh", "-c")), *words]
    plan["path"] = paths.container_file(record.id, "health.json")
    return plan
