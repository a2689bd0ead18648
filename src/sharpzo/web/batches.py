"""Photos that arrive together are answered together, by one thread."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

MOST = 32  # photos of a batch: the image tower takes some at a time, and the next are decoded
Document = dict[str, Any]
Answer = Callable[[str, Sequence[bytes]], list[Document]]


class Batches:
    """Hands photos to ``answer``, which makes a document of each: whatever lies in the queue by the
    time the ones before are answered, ``MOST`` at most, by run. At most ``waiting`` lie there."""

    def __init__(self, answer: Answer, waiting: int) -> None:
        self._answer = answer
        self._queue: queue.Queue[tuple[str, bytes, Future[Document]] | None] = queue.Queue(waiting)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many photos lie in the queue."""
        return self._queue.qsize()

    def submit(self, run: str, photo: bytes) -> Future[Document]:
        """Add a photo; raises queue.Full. One that is cancelled in time is left out."""
        future: Future[Document] = Future()
        self._queue.put_nowait((run, photo, future))
        return future

    def close(self) -> None:
        """Answer what lies in the queue, and end."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            with suppress(queue.Empty):
                while len(batch) < MOST:
                    batch.append(self._queue.get_nowait())
            going = None not in batch
            by_run: dict[str, list[tuple[bytes, Future[Document]]]] = {}
            for run, photo, future in filter(None, batch):
                if future.set_running_or_notify_cancel():
                    by_run.setdefault(run, []).append((photo, future))
            for run, asked in by_run.items():
                photos, futures = zip(*asked, strict=True)
                try:
                    answered = list(zip(futures, self._answer(run, photos), strict=True))
                except Exception as error:
                    for future in futures:
                        future.set_exception(error)
                    continue
                for future, document in answered:
                    future.set_result(document)
