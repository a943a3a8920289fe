# SPDX-License-Identifier: Apache-2.0
"""Control groups of containers, on cgroup v1, v2 and hybrid hosts.  [hot]

For `runtime` (create, exec), the monitor and the face `lamina-runtime`. Everything goes through `Cgroup`; `detect()` says what
this host has. A restriction that was asked for and can't be applied is an error that names it, never a warning.
"""

from __future__ import annotations

from lamina.runtime.cgroups.cgroup import Cgroup, enter_fds
from lamina.runtime.cgroups.layout import Hierarchy, Layout, detect

__all__ = ["Cgroup", "Hierarchy", "Layout", "detect", "enter_fds"]
