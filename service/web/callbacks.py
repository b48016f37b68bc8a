"""Vendors call in here: any body, any content type; 2xx only after the words are durable."""

from starlette.requests import Request
from starlette.responses import Response

from schemas.callback import Callback, Via
from schemas.problem import Problem, not_found
from service.pipeline.receive import MOST_BYTES, Receipt, receive
from service.web.site import read_capped, site_of


async def inbound(request: Request) -> Response:
    site = site_of(request)
    contracted = site.vendors.get(request.path_params["vendor"])
    token = request.path_params["token"]
    if contracted is None or not contracted.vendor.announces:
        raise not_found("callback URL")
    body = await read_capped(request, MOST_BYTES)
    if request.method == "GET":
        # Nothing but the query can speak in a GET; it holds no token of ours.
        body = request.scope["query_string"]
    content_type = request.headers.get("content-type", "application/octet-stream")[:200]
    receipt = await receive(site.core, contracted, token, Callback(Via.WEBHOOK, body, content_type))
    if receipt is Receipt.UNKNOWN:
        raise not_found("callback URL")
    if receipt is Receipt.TOO_MANY:
        raise Problem(429, "too_many_callbacks", "More was said of this job than a vendor would say.")
    return Response(status_code=204)
