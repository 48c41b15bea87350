"""The watcher: send Prefect an event for each file that arrives.

An event is only a wake-up: it is lost when the server is down, and the landing folder holds the same
information. So the watcher lists the folder at the start, at every change and every few seconds, and repeats
an event that the server did not take.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import watchfiles
from prefect.client.orchestration import get_client
from prefect.events import Event, Resource
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import own_run
from flows.sequences.files import refuse_name
from lindley.addresses import public
from lindley.arrivals.landing import Arrival
from lindley.arrivals.storage import storage_of
from lindley.errors import LindleyError
from lindley.model.declaration import is_declared
from lindley.names import printable, shown_name
from lindley.workspace import Workspace

EVENT = "lindley.batch.arrived"
#: Seconds between listings when the file system reports no change.
LIST_SECONDS = 5.0
#: Seconds between listings of a bucket, which reports no change.
BUCKET_SECONDS = 10.0
#: Seconds after which the oldest file of a chain is announced again if it is still in the landing folder.
REMIND_SECONDS = 900.0

_Identity = tuple[str, int, int, str]


class NotDelivered(Exception):
    """The Prefect server did not confirm an event."""


def announce(arrival: Arrival) -> None:
    """Emit the event of a file: resource ``lindley.landing.CHAIN``, payload chain, file and size.

    The server confirms the request; `prefect.events.emit_event` returns normally even when the server is
    down.

    Raises
    ------
    NotDelivered
        If the server does not confirm it.
    """
    event = Event(
        event=EVENT,
        resource=Resource({"prefect.resource.id": f"lindley.landing.{arrival.chain}"}),
        payload={"chain": arrival.chain, "file": arrival.path.name, "size": arrival.size},
    )
    try:
        # Without the client's own retries, which would block the watcher for a minute.
        with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}), get_client(sync_client=True) as client:
            client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()
    except Exception as error:  # whatever the error, the event is sent again
        raise NotDelivered(public(f"{type(error).__name__}: {error}")) from error


@dataclass
class Watcher:
    """Announces every complete file of a landing folder once, and the oldest of a chain again if it stays.

    The files after it wait: a run for each would take the oldest first, and fail as it did. While a run
    updates a chain, its files are on their way and none is announced again. A file or folder
    that cannot be read is reported once, and the others are announced. One whose name is not UTF-8, which no
    event can hold, is set aside.

    Parameters
    ----------
    workspace
        Whose landing folder.
    announce
        Sends the event of a file; raises `NotDelivered` if that fails.
    finished
        Whether the writer of a file has finished; may raise `OSError`.
    clock
        Returns seconds; only differences matter.
    notify
        Takes one sentence for the log.
    busy
        Whether a run updates a chain now.
    """

    workspace: Workspace
    announce: Callable[[Arrival], None]
    finished: Callable[[Arrival], bool]
    clock: Callable[[], float]
    notify: Callable[[str], object]
    busy: Callable[[str], bool] = lambda _: False
    _announced: dict[_Identity, float] = field(default_factory=dict)
    _reported: set[str] = field(default_factory=set)

    def look(self) -> None:
        """List the folder and announce what is due."""
        try:
            listing = storage_of(self.workspace).arrivals()
        except LindleyError as error:
            self._report({str(error)})
            return
        present: set[_Identity] = set()
        troubles = {str(entry.error) for entry in listing.ignored if entry.error is not None}
        ahead: set[str] = set()  # chains with an older file
        for arrival in listing:
            identity = (str(arrival.path), arrival.size, arrival.mtime_ns, arrival.e_tag)
            present.add(identity)
            last = self._announced.get(identity)
            try:
                due = last is None or (arrival.chain not in ahead and self._reminds(arrival, last))
                if due:
                    if not self.finished(arrival):
                        continue  # the files after it do not wait for it
                    if refuse_name(self.workspace, arrival, self.notify):
                        continue
                    self.announce(arrival)
                    self._announced[identity] = self.clock()
                    self.notify(f"{arrival.chain}/{shown_name(arrival.path)} arrived, {arrival.size:,} bytes")
                ahead.add(arrival.chain)
            except NotDelivered as error:
                ahead.add(arrival.chain)
                troubles.add(f"The Prefect server does not answer ({error}); events are sent when it does")
            except Exception as error:  # whatever the error, it concerns this file alone
                shown = f"{arrival.chain}/{shown_name(arrival.path)}"
                troubles.add(f"{shown} is left out: {type(error).__name__}: {error}")
        self._report(troubles)
        self._announced = {key: when for key, when in self._announced.items() if key in present}

    def _reminds(self, arrival: Arrival, last: float) -> bool:
        """Return whether a file that stays is announced again: its chain may be declared only later."""
        waited = self.clock() - last >= REMIND_SECONDS
        return waited and is_declared(arrival.chain, self.workspace.models) and not self.busy(arrival.chain)

    def _report(self, troubles: set[str]) -> None:
        """Report the troubles that the last look did not report."""
        for trouble in sorted(troubles - self._reported):
            self.notify(trouble)
        self._reported = troubles


def watch(workspace: Workspace, stop: threading.Event) -> None:
    """Watch the landing folder until `stop` is set; blocks. A bucket is listed again and again.

    The landing folder and the folder of corrections beside it are made if need be. The watch ends within a
    second or two after `stop` is set.
    """
    if workspace.bucket is None:
        for folder in (workspace.landing, workspace.corrections):
            folder.mkdir(parents=True, exist_ok=True)
    watcher = Watcher(
        workspace=workspace,
        announce=announce,
        finished=lambda arrival: storage_of(workspace).is_complete(
            arrival.path, clock=time.time, sleep=time.sleep
        ),
        clock=time.monotonic,
        notify=logging.getLogger("lindley.watch").info,
        busy=lambda chain: not own_run.is_free(workspace, chain),
    )
    watcher.look()
    while not stop.is_set():
        try:
            if workspace.bucket is None:
                _look_at_changes(watcher, stop)
            else:
                stop.wait(BUCKET_SECONDS)
        except Exception as error:  # a name that watchfiles cannot read, or no more watches: list without it
            watcher.notify(
                printable(f"Changes are not reported for a moment: {type(error).__name__}: {error}")
            )
            stop.wait(LIST_SECONDS)
        if not stop.is_set():
            watcher.look()


def _look_at_changes(watcher: Watcher, stop: threading.Event) -> None:
    """Look at every change, and when none comes for some seconds, until `stop` is set."""
    for _ in watchfiles.watch(
        watcher.workspace.landing,
        stop_event=stop,
        rust_timeout=int(LIST_SECONDS * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
        debounce=400,
        ignore_permission_denied=True,  # a folder that cannot be watched is still listed
    ):
        if stop.is_set():
            return
        watcher.look()
