"""The outbound client under the address guard: no name, no second look-up and no redirect gets past it."""

import asyncio
from ipaddress import ip_network

import pytest
from aiohttp import web

from service.security.egress import Guard
from tests.unit.http_servers import Names, answers, client, drains, echo, fails, guarded, new, read, redirects, serving

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("each_client")]


# The guard.


async def test_an_allowed_network_is_reached() -> None:
    async with serving(echo) as url, client(guarded("127.0.0.0/8")) as http:
        assert (await http.request("POST", url)).status == 200


async def test_loopback_is_refused_by_its_address_and_by_any_name() -> None:
    names = Names(inner=["127.0.0.1"], mapped=["::ffff:127.0.0.1"])
    async with serving(echo) as url, client(guarded(resolver=names)) as http:
        for host in ("127.0.0.1", "localhost", "2130706433", "inner", "mapped"):
            error = await fails(http.request("POST", url.replace("127.0.0.1", host)), "refused_address")
            assert not error.sent


async def test_the_sockets_address_is_judged_even_where_the_url_was_not() -> None:
    async with serving(echo) as url, client(new(judge=Guard().socket)) as http:
        for host in ("127.0.0.1", "localhost", "0x7f.1"):
            assert not (await fails(http.request("GET", url.replace("127.0.0.1", host)), "refused_address")).sent


@pytest.mark.parametrize("inner", [["10.0.0.1", "127.0.0.1"], ["10.0.0.1", "fd00::1", "192.168.0.1"]])
async def test_a_name_with_only_inner_addresses_is_refused(inner: list[str]) -> None:
    async with client(guarded(resolver=Names(many=inner))) as http:
        assert not (await fails(http.request("GET", "http://many/"), "refused_address")).sent


@pytest.mark.parametrize("order", [["127.0.0.1", "127.0.0.2"], ["127.0.0.2", "127.0.0.1"], ["::1", "127.0.0.2"]])
async def test_of_several_addresses_only_the_allowed_one_is_connected_to(order: list[str]) -> None:
    async with serving(echo, "127.0.0.2") as url, client(guarded("127.0.0.2/32", resolver=Names(many=order))) as http:
        assert (await http.request("GET", url.replace("127.0.0.2", "many"))).status == 200


async def test_a_name_that_leads_elsewhere_at_its_second_look_up_is_refused() -> None:
    names = Names(rebinds=["127.0.0.2"])
    async with serving(answers(b"", Connection="close"), "127.0.0.2") as url:
        guard = Guard([ip_network("127.0.0.2/32")])
        for addresses, refused in ((["127.0.0.2"], False), (["127.0.0.1"], True)):
            names.names["rebinds"] = addresses
            async with client(new(judge=guard.socket, judge_url=guard.judge_url, resolver=names)) as http:
                call = http.request("GET", url.replace("127.0.0.2", "rebinds"))
                if refused:
                    await fails(call, "refused_address")
                else:
                    assert (await call).status == 200


async def test_the_operators_own_origin_is_trusted_and_no_other_port_is() -> None:
    async with serving(echo) as own, serving(echo) as other, client(guarded(trusted=frozenset({own + "/v1"}))) as http:
        assert (await http.request("GET", own + "/v1/tasks")).status == 200
        await fails(http.request("GET", other), "refused_address")
        # A name is not its address: only what the operator wrote is trusted.
        await fails(http.request("GET", own.replace("127.0.0.1", "localhost")), "refused_address")


# Redirects.


async def test_a_request_never_follows_a_redirect() -> None:
    async with serving(redirects("/elsewhere", 307)) as url, client() as http:
        assert (await http.request("POST", url, body=b"x")).status == 307
        async with http.stream("POST", url, deadline=5, max_bytes=10, redirects=3) as stream:
            assert stream.status == 307
        async with http.stream("GET", url, deadline=5, max_bytes=10) as stream:
            assert stream.status == 307


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_streamed_get_follows_its_redirects(status: int) -> None:
    async def handler(request: web.Request) -> web.Response:
        if request.path == "/2":
            return web.Response(text=request.raw_path)
        return web.Response(status=status, headers={"Location": "2?sig=%2F+" if request.path == "/1" else "/1"})

    async with serving(handler) as url, client() as http:
        assert await read(http.stream("GET", url, deadline=5, max_bytes=99, redirects=2)) == b"/2?sig=%2F+"
        error = await drains(http.stream("GET", url, deadline=5, max_bytes=99, redirects=1), "too_many_redirects")
        assert error.sent


async def test_a_redirect_loop_ends() -> None:
    hops = 0

    async def handler(_: web.Request) -> web.Response:
        nonlocal hops
        hops += 1
        return web.Response(status=302, headers={"Location": "/"})

    async with serving(handler) as url, client() as http:
        await drains(http.stream("GET", url, deadline=5, max_bytes=99, redirects=3), "too_many_redirects")
    assert hops == 4


async def test_a_redirect_from_an_allowed_address_to_loopback_is_refused() -> None:
    reached = False

    async def inner(_: web.Request) -> web.Response:
        nonlocal reached
        reached = True
        return web.Response()

    async with serving(inner) as secret:
        port = secret.rpartition(":")[2]
        for target in (secret, f"http://localhost:{port}", f"http://inner:{port}", f"//127.0.0.1:{port}/"):
            http = guarded("127.0.0.2/32", resolver=Names(inner=["127.0.0.1"], localhost=["127.0.0.1"]))
            async with serving(redirects(target), "127.0.0.2") as url, client(http):
                stream = http.stream("GET", url, deadline=5, max_bytes=99, redirects=3)
                # The first server did receive a request.
                assert (await drains(stream, "refused_address")).sent
    assert not reached


@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://example.com/", "http://user:tomato@127.0.0.1/", "http://[::1", "http://a:0/"],
)
async def test_a_redirect_to_nonsense_or_with_credentials_is_a_bad_url(target: str) -> None:
    async with serving(redirects(target)) as url, client() as http:
        error = await drains(http.stream("GET", url, deadline=5, max_bytes=99, redirects=3), "bad_url")
    assert error.sent
    assert "tomato" not in str(error)


async def test_secrets_are_not_carried_to_another_origin() -> None:
    headers = {"Authorization": "Bearer tomato", "X-API-KEY": "tomato", "Cookie": "a=tomato", "Accept": "image/*"}
    async with serving(echo) as other, serving(redirects(other)) as url, client() as http:
        told = await read(http.stream("GET", url, headers=headers, deadline=5, max_bytes=9999, redirects=1))
        assert b"tomato" not in told
        assert b"image/*" in told

    async def same(request: web.Request) -> web.StreamResponse:
        return await echo(request) if request.path == "/2" else await redirects("/2")(request)

    async with serving(same) as url, client() as http:
        told = await read(http.stream("GET", url, headers=headers, deadline=5, max_bytes=9999, redirects=1))
        assert told.count(b"tomato") == 3


async def test_all_hops_share_one_deadline() -> None:
    async def handler(_: web.Request) -> web.Response:
        await asyncio.sleep(0.1)
        return web.Response(status=302, headers={"Location": "/"})

    async with serving(handler) as url, client() as http:
        await drains(http.stream("GET", url, deadline=0.25, max_bytes=99, redirects=50), "timeout")
