# SPDX-License-Identifier: Apache-2.0
"""`Engine(root, runroot)`: opens a store and owns the parts; the use cases are in the modules beside. [hot]

An engine is cheap to make (a few milliseconds) and keeps no process: any number of engines, in any number of processes, may work
on one data root at once. Not for sharing between threads: make one in each. Use it as a context manager, or call `close()`.
"""

from __future__ import annotations

from lamina.errors import LaminaError
from lamina.store import presence
from lamina.store.open import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lamina.images.store import ImageStore
    from lamina.layers.store import LayerStore
    from lamina.monitor.launch import Prepared

    from .archives import Archives
    from .containers import Containers
    from .images import Images
    from .layers import Layers
    from .system import System
    from .volume_verbs import Volumes


class Engine:
    """root: data root, made when missing; runroot: run-time state (a tmpfs is best). Both are kept as real paths."""

    __slots__ = (
        "store", "_layer_store", "_image_store", "_containers", "_images", "_layers", "_system", "leftovers", "reap_at_close", "lost",
        "meanwhile", "monitor",
    )  # fmt: skip

    def __init__(self, root: str, runroot: str) -> None:
        self.store = Store.open(root, runroot)
        self._layer_store: LayerStore | None = None
        self._image_store: ImageStore | None = None
        self._containers: Containers | None = None
        self._images: Images | None = None
        self._layers: Layers | None = None
        self._system: System | None = None
        self.reap_at_close = True
        self.leftovers: bool | None = None  # what `unfinished` said, when there was time to ask
        self.lost: list[str] = []  # containers seen whose monitor was killed
        self.monitor: Prepared | None = None  # made ahead (ahead.py), for the next start or exec
        self.meanwhile: Callable[[], None] | None = None  # what the caller can do while a monitor is at work

    # -- the parts, made when first asked for: `ps` needs no layers, `images` no containers

    @property
    def layer_store(self) -> LayerStore:
        if self._layer_store is None:
            from lamina.layers.store import LayerStore

            self._layer_store = LayerStore(self.store)
        return self._layer_store

    @property
    def image_store(self) -> ImageStore:
        if self._image_store is None:
            from lamina.images.store import ImageStore

            self._image_store = ImageStore(self.store, self.layer_store)
        return self._image_store

    # -- the verbs

    @property
    def containers(self) -> Containers:
        if self._containers is None:
            from .containers import Containers

            self._containers = Containers(self)
        return self._containers

    @property
    def images(self) -> Images:
        if self._images is None:
            from .images import Images

            self._images = Images(self)
        return self._images

    @property
    def archives(self) -> Archives:
        from .archives import Archives

        return Archives(self)

    @property
    def layers(self) -> Layers:
        if self._layers is None:
            from .layers import Layers

            self._layers = Layers(self)
        return self._layers

    @property
    def system(self) -> System:
        if self._system is None:
            from .system import System

            self._system = System(self)
        return self._system

    def unfinished(self) -> bool:
        """Whether this command, at its end, should finish what others left; asked once, early if there is time."""
        if self.leftovers is None:
            looked = self._containers is not None or self.store.db.is_open and self.store.db.one("SELECT 1 FROM removals") is not None
            self.leftovers = looked and self.containers.unfinished()
        return self.leftovers

    @property
    def volumes(self) -> Volumes:
        from .volume_verbs import Volumes

        return Volumes(self)

    def close(self, *, exiting: bool = False, error: BaseException | None = None) -> None:
        """Finishes what earlier commands or killed monitors left (three short reads where there is nothing), and closes the store.

        exiting: the process ends right after; that closes it. error: what the caller's work ended with, if it failed.
        """
        monitor, self.monitor = self.monitor, None
        try:
            if monitor is not None:
                monitor.cancel()
            cut_off = presence.cut_off(self.store.paths.runroot)
            if cut_off:
                from . import tidying

                tidying.tidy(self, cut_off)
            elif self.lost or self.reap_at_close and self.unfinished():
                self.system.reap()
        except (LaminaError, OSError) as failure:  # others' leavings: no reason why this command has failed; the next one tries again
            error = failure
        finally:
            if exiting:
                self.store.db.let_go()
            else:
                self.store.close(lazy=True)
            if not presence.undone(error):
                self.store.leave()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.close(error=error)
