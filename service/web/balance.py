"""What is left at a vendor, and what was used: accounts are the operator's, so the first project alone is told."""

from starlette.requests import Request
from starlette.responses import Response

from handlers.vendors.contract import TellsCreditHistory, TellsCredits
from schemas import offers
from schemas.event import rfc3339
from schemas.problem import Problem, not_found
from service.store.keys import Principal
from service.vendors import Contracted
from service.web.asking import answered, contracted, cursor
from service.web.lists import envelope, limit_of
from service.web.query import Query
from service.web.site import Answer, site_of


def _teller(request: Request, who: Principal) -> tuple[Contracted, TellsCredits]:
    if not who.first_project:
        raise Problem(403, "forbidden", "Credits are told to an admin key of the first project.")
    found = contracted(request)
    if not isinstance(found.vendor, TellsCredits):
        raise not_found("count of credits: this vendor tells none")
    return found, found.vendor


async def show(request: Request, who: Principal) -> Response:
    found, teller = _teller(request, who)
    site = site_of(request)
    left = await answered(site, who, teller.credits(found.account))
    told: offers.Credits = {
        "object": "credits",
        "vendor": found.name,
        "balance": left.balance,
        "unit": "credits",
        "details": dict(left.raw),
        "at": rfc3339(site.clock.now()),
    }
    return Answer(told)


async def history(request: Request, who: Principal) -> Response:
    """One page, in the vendor's order; it may hold fewer than `limit`, where the vendor gives no more at once."""
    found, teller = _teller(request, who)
    if not isinstance(teller, TellsCreditHistory):
        raise not_found("history of credits: this vendor tells none")
    query = Query(request)
    after, limit = cursor(query), limit_of(query)
    query.check()
    page = await answered(site_of(request), who, teller.credit_history(found.account, after, limit), "after")
    entries: list[offers.CreditUse] = [{"object": "credit_use", "details": dict(entry)} for entry in page.entries]
    return envelope(entries, page.next)
