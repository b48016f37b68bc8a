"""The styles that a vendor's operations take, in groups: lists of the vendor's, passed on a page at a time."""

import re
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from handlers.vendors.contract import LARGEST_STYLE_PAGE, HasStyles
from schemas import offers
from schemas.catalogue import Operation
from schemas.problem import not_found
from service.store.keys import Principal
from service.vendors import Contracted
from service.web.asking import answered, contracted, cursor
from service.web.lists import envelope
from service.web.query import Query
from service.web.site import site_of

_ID = re.compile("[0-9]{1,19}")


def _styled(request: Request) -> tuple[Contracted, HasStyles, Operation]:
    """404 for whatever has no styles, whether or not its vendor has an account."""
    site = site_of(request)
    operation = site.vendors.operation(f"{request.path_params['vendor']}/{request.path_params['feature']}")
    if operation is None:
        raise not_found("operation")
    vendor = site.vendors.known(operation.vendor)
    if not isinstance(vendor, HasStyles) or not vendor.has_styles(operation):
        raise not_found(f"list: {operation.id} takes no style")
    return contracted(request), vendor, operation


async def groups(request: Request, who: Principal) -> Response:
    found, vendor, operation = _styled(request)
    query = Query(request)
    after, limit = cursor(query), _limit(query)
    query.check()
    ask = partial(vendor.style_groups, found.account, operation, after, limit)
    lookups = site_of(request).lookups
    page = await answered(site_of(request), who, lookups.page(("groups", operation.id, after, limit), ask), "after")
    shown: list[offers.StyleGroup] = [{"id": entry["id"], "title": entry["title"]} for entry in page.entries]
    return envelope(shown, page.next)


async def index(request: Request, who: Principal) -> Response:
    found, vendor, operation = _styled(request)
    query = Query(request)
    after, limit, group = cursor(query), _limit(query), query.text("style_group_id")
    if group is not None and not _ID.fullmatch(group):
        query.fault("style_group_id", "must be the id of a style group: 1 to 19 digits")
    query.check()
    ask = partial(vendor.styles, found.account, operation, group, after, limit)
    lookups, key = site_of(request).lookups, ("styles", operation.id, group, after, limit)
    blamed = "after" if group is None else "style_group_id"
    page = await answered(site_of(request), who, lookups.page(key, ask), blamed)
    shown: list[offers.Style] = [
        {"id": entry["id"], "title": entry["title"], "thumbnail": entry["thumbnail"]} for entry in page.entries
    ]
    return envelope(shown, page.next)


def _limit(query: Query) -> int:
    return query.number("limit", LARGEST_STYLE_PAGE, 1, LARGEST_STYLE_PAGE)
