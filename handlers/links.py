"""Which URLs may go out at all, before anybody asks where they lead."""

import re

from yarl import URL

_HOST = re.compile(r"[0-9a-z_.-]+|[0-9a-f:.]+", re.IGNORECASE)


def loose_url(url: str) -> URL:
    """A URL or a reference, unchecked. Raises ValueError."""
    # What already is ASCII is taken as it stands: requoting would break the signature of a signed link.
    return URL(url, encoded=url.isascii())


def parse_url(url: str) -> URL:
    """A URL that may go out, taken as it stands. Raises ValueError with a reason for people that quotes no secret."""
    if any(not sign.isprintable() or sign.isspace() for sign in url):
        raise ValueError("the URL holds blanks or control characters")
    try:
        parsed = loose_url(url)
        host, port, authority = parsed.raw_host, parsed.port, parsed.raw_authority
    except ValueError:
        raise ValueError("this is not a URL, or its port is not between 1 and 65535") from None
    if parsed.scheme not in ("http", "https"):
        raise ValueError("the URL does not begin with http:// or https://")
    if not host:
        raise ValueError("the URL has no host")
    if "@" in authority:
        raise ValueError("the URL holds credentials")
    if not _HOST.fullmatch(host):
        raise ValueError("the URL's host is not a name or an address")
    if not port:
        raise ValueError("the URL's port is not between 1 and 65535")
    return parsed


def origin_of(url: URL) -> str:
    """`scheme://host:port` in lower case, the port always written."""
    host = (url.raw_host or "").lower().rstrip(".")
    return f"{url.scheme}://[{host}]:{url.port}" if ":" in host else f"{url.scheme}://{host}:{url.port}"
