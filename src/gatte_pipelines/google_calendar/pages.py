"""A list of events in pages: read to its end, which alone says where the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from gatte_pipelines.google_calendar.models import Event, read_events
from gatte_pipelines.json_records import UnreadableError
from gatte_pipelines.paging import PageGuard

_KIND = "calendar#events"


@dataclass(frozen=True, kw_only=True)
class Page:
    """One page; it has exactly one of the two tokens.

    Attributes:
        events: Perhaps none, though more are to come.
        next_page_token: Where the list goes on; None on the last page.
        next_sync_token: Where the next list begins; None on any but the last.
    """

    events: list[Event] = field(repr=False)
    next_page_token: str | None = field(repr=False)
    next_sync_token: str | None = field(repr=False)


def read_page(tree: Mapping[str, object] | None) -> Page:
    """Take a page out of decoded JSON.

    Raises:
        UnreadableError: A field is missing or of another type; it is named. A list that ends
            without a token would look as if the rest had been deleted.
    """
    if tree is None:
        raise UnreadableError("the list is missing")
    following, token = _token(tree, "nextPageToken"), _token(tree, "nextSyncToken")
    if following is None and token is None:
        raise UnreadableError("both nextPageToken and nextSyncToken are missing")
    items = tree.get("items")
    if items is None and tree.get("kind") == _KIND:
        items = []
    events = read_events(items)
    return Page(
        events=events,
        next_page_token=following,
        next_sync_token=token if following is None else None,
    )


class EventList:
    """Events of a list, in the order of its pages; read once.

    Args:
        fetch: Gives the page of a page token, the first for None.
        guard: Ends a list that does not end.
    """

    def __init__(self, fetch: Callable[[str | None], Page], guard: PageGuard) -> None:
        self._fetch = fetch
        self._guard = guard
        self._is_begun = False
        self._next_sync_token: str | None = None

    def __iter__(self) -> Iterator[Event]:
        """Fetch and give one page after another.

        Raises:
            ValueError: It was read before.
            PagingError: It does not come to an end.
        """
        if self._is_begun:
            raise ValueError("a list is read once")
        self._is_begun = True
        return self._read()

    @property
    def next_sync_token(self) -> str:
        """What the next list begins with: everything that changes from now on.

        Raises:
            ValueError: The list was not read to its end, so that nobody knows what is missing.
        """
        if self._next_sync_token is None:
            raise ValueError("the list was not read to its end")
        return self._next_sync_token

    def _read(self) -> Iterator[Event]:
        token: str | None = None
        while True:
            page = self._fetch(token)
            self._guard.check(page.events, token, page.next_page_token)
            yield from page.events
            token = page.next_page_token
            if token is None:
                self._next_sync_token = page.next_sync_token
                return


def _token(tree: Mapping[str, object], name: str) -> str | None:
    token = tree.get(name)
    if token is not None and not isinstance(token, str):
        raise UnreadableError(f"{name} is not text")
    return token or None
