"""The catalogue of operations."""

from starlette.requests import Request
from starlette.responses import Response

from schemas.problem import not_found
from service.store.keys import Principal
from service.web.lists import envelope
from service.web.site import Answer, site_of


async def index(request: Request, who: Principal) -> Response:  # noqa: ARG001 - the same for every project
    """All of them, in one page."""
    site = site_of(request)
    shown = [
        {**operation.as_json(), "configured": site.vendors.get(operation.vendor) is not None}
        for operation in site.vendors.operations()
    ]
    return envelope(shown, None)


async def show(request: Request, who: Principal) -> Response:  # noqa: ARG001 - the same for every project
    site = site_of(request)
    vendor, name = request.path_params["vendor"], request.path_params["name"]
    operation = site.vendors.operation(f"{vendor}/{name}")
    if operation is None:
        raise not_found("operation")
    return Answer({**operation.as_json(), "configured": site.vendors.get(vendor) is not None})
