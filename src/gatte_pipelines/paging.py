"""Ends a vendor's list that does not end by itself. No input or output."""

from __future__ import annotations

from gatte_pipelines.http import PermanentHttpError


class PagingError(PermanentHttpError):
    """A list that does not come to an end."""


class PageGuard:
    """Ends a list that goes round in circles.

    Args:
        method: Of the list's requests.
        path: Of the same, with nothing personal in it.
        max_pages: Pages after which a list counts as endless.
    """

    def __init__(self, method: str, path: str, max_pages: int) -> None:
        self._method = method
        self._path = path
        self._max_pages = max_pages
        self._pages = 0
        self._cursors: set[str] = set()
        self._last: object = None
        self._repeats = 0

    def check(self, page: object, position: int | str | None, following: int | str | None) -> None:
        """Look at a page and at where the next one is said to be.

        Raises:
            PagingError: The next page would be one that was read, or is one too many.
        """
        self._pages += 1
        self._repeats = self._repeats + 1 if page and page == self._last else 0
        self._last = page
        # By offset a page may come twice: just as many records were put in front of it meanwhile.
        if self._repeats > isinstance(position, int):
            raise self._error("the same page comes again and again")
        if following is None:
            return
        if isinstance(following, int) and isinstance(position, int) and following <= position:
            raise self._error("the next page does not begin after this one")
        if isinstance(following, str):
            if following in self._cursors:
                raise self._error("a cursor came twice")
            self._cursors.add(following)
        if self._pages >= self._max_pages:
            raise self._error(f"there are more than {self._max_pages} pages")

    def _error(self, message: str) -> PagingError:
        return PagingError(message, method=self._method, path=self._path)
