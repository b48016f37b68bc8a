"""What the routes share that ask a vendor while somebody waits: which vendor, and its no as a problem.

The vendor's words reach the operator alone: accounts are not the other projects' business.
"""

import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from handlers.vendors.contract import VendorError
from schemas.job import ErrorClass
from schemas.problem import FieldError, Problem, invalid, not_found
from service.lookups import TookTooLong
from service.store.keys import Principal
from service.vendors import Contracted
from service.web.query import Query
from service.web.site import Site, site_of

T = TypeVar("T")

LONGEST_CURSOR = 512
AGAIN_SECONDS = 30


def contracted(request: Request) -> Contracted:
    """The vendor that the path names. Raises Problem: 404 where there is none, 409 where it has no account here."""
    site, name = site_of(request), request.path_params["vendor"]
    if name not in site.vendors.names:
        raise not_found("vendor")
    found = site.vendors.get(name)
    if found is None:
        raise Problem(
            409, "vendor_not_configured", f"The vendor {name} has no account here: its credentials are not set."
        )
    return found


def cursor(query: Query) -> str | None:
    """The vendor's own, handed back as it came."""
    after = query.text("after")
    if after is not None and not (0 < len(after) <= LONGEST_CURSOR and after.isprintable()):
        query.fault("after", "is no cursor; go on with the `next` of a page")
    return after


async def answered(site: Site, who: Principal, question: Coroutine[Any, Any, T], blamed: str | None = None) -> T:
    """The vendor's answer. Raises Problem; `blamed` is the field that the vendor does not take, if it says so."""
    try:
        return await site.lookups.patiently(question)
    except TookTooLong:
        raise _busy(AGAIN_SECONDS) from None
    except VendorError as error:
        raise _problem(error, who, blamed) from None


def _problem(error: VendorError, who: Principal, blamed: str | None) -> Problem:
    if error.error_class is ErrorClass.RATE_LIMIT:
        return _busy(math.ceil(error.retry_after or AGAIN_SECONDS))
    if error.error_class is ErrorClass.INPUT and blamed is not None:
        return invalid([FieldError(blamed, f"the vendor says: {error.message}")])
    told = {"vendor_error": error.as_failure().as_json()} if who.first_project else {}
    if error.permanent:
        return Problem(409, "vendor_refused", "The vendor refuses the question.", more=told)
    headers = {"Retry-After": str(math.ceil(error.retry_after or AGAIN_SECONDS))}
    return Problem(503, "vendor_unavailable", "The vendor can't be asked now.", headers=headers, more=told)


def _busy(seconds: int) -> Problem:
    detail = "The vendor's limits are taken up by its tasks: ask again later."
    return Problem(503, "vendor_busy", detail, headers={"Retry-After": str(max(seconds, 1))})
