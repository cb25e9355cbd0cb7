"""A proxy before the database's socket that can go deaf, as a cable that was cut, or refuse."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from pathlib import Path
from types import TracebackType


class Proxy:
    """Use it as a context manager; `folder` is the `host` to connect to."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder = folder
        self._target = str(target)
        self._path = folder / ".s.PGSQL.5432"
        self._deaf = threading.Event()  # of all connections since the last `forward`
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = True

    def __enter__(self) -> Proxy:
        self.folder.mkdir(exist_ok=True)
        self.listen()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._open = False
        self.refuse()

    def swallow(self) -> None:
        """Take what is sent, on old connections and new ones, and pass nothing on."""
        self._deaf.set()

    def forward(self) -> None:
        """Pass on again, on new connections only: what was swallowed is gone."""
        self._deaf = threading.Event()  # before the old ones end: who loses one connects again at once
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def refuse(self) -> None:
        """End all connections and take no more."""
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.forward()

    def listen(self) -> None:
        """Take connections, at first and after they were refused."""
        self._path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            theirs = socket.socket(socket.AF_UNIX)
            try:
                theirs.connect(self._target)
            except OSError:
                ours.close()
                continue
            self._pairs.append((ours, theirs))
            threading.Thread(target=self._pump, args=(ours, theirs, self._deaf), daemon=True).start()

    def _pump(self, ours: socket.socket, theirs: socket.socket, deaf: threading.Event) -> None:
        other = {ours: theirs, theirs: ours}
        with contextlib.suppress(OSError):
            while True:
                for end in select.select([ours, theirs], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        raise ConnectionResetError
                    if not deaf.is_set():
                        other[end].sendall(data)
        for end in other:
            end.close()
