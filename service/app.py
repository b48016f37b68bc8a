"""The composition root: every object is built here, started in order, and stopped kindly."""

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from handlers.destinations.contract import Destination
from handlers.destinations.shopify import Shopify
from handlers.destinations.vendure import Vendure
from handlers.destinations.webhook import Webhook
from handlers.destinations.woocommerce import WooCommerce
from schemas import ids
from schemas.job import Job
from service import accounts, secret_key
from service.clock import Clock, SystemClock
from service.config import Settings
from service.heart import Heart
from service.lookups import Lookups
from service.metrics import Metrics
from service.opening import asset_store, database_of
from service.pipeline import retry, trouble
from service.pipeline.accept import Accept
from service.pipeline.core import Core
from service.pipeline.crew import crew, delivery_scan
from service.pipeline.deliver import Deliver
from service.pipeline.poll import STEP as POLL
from service.pipeline.presence import Presence
from service.pipeline.replay import Replays
from service.pipeline.shops import Results, Turns
from service.pipeline.stage import Sources
from service.pipeline.streams import Streams
from service.resealing import Resealing
from service.retention import Retention
from service.security import keys as security_keys
from service.security.cursors import Cursors
from service.security.egress import Guard
from service.security.keys import Role
from service.security.links import AssetLinks
from service.security.vault import Vault, key_file
from service.store import keys, meta, nodes, projects, submissions
from service.store.backfill import backfill
from service.store.database import Database, StoreUnavailable, Tx
from service.store.migrate import migrate
from service.vendors import Vendors
from service.web.following import Following
from service.web.places import Places
from service.web.projects import add_project
from service.web.routes import http_exception, starlette_routes
from service.web.site import Site
from service.web.waiting import Waiting

log = structlog.get_logger()

# What each kind of shop is in `schemas.shop.SHOPS`, this is for its deliveries.
SHOPS: Mapping[str, Callable[..., Destination]] = {
    "shopify": Shopify,
    "woocommerce": WooCommerce,
    "vendure": Vendure,
}

GRACE_SECONDS = 10.0
# So long the tasks that die unasked have machine and store for themselves at a start, at most.
URGENT_SECONDS = 2.0


class WrongStore(Exception):
    """The store is another installation's."""


@dataclass
class Wirephoto:
    """A running service without its HTTP server. `made_key` is set where a first key was made just now.

    `lost` is set when this node's work was taken over by another: the process must end.
    """

    settings: Settings
    core: Core
    site: Site
    made_key: str | None
    lost: asyncio.Event

    def asgi(self) -> Starlette:
        app = Starlette(routes=starlette_routes(), exception_handlers={HTTPException: http_exception})
        app.state.site = self.site
        # A redirect to the path without its slash would be built from the Host that the client made up.
        app.router.redirect_slashes = False
        return app


def vault_of(settings: Settings) -> Vault:
    old = [key.get_secret_value() for key in settings.secret_keys_old]
    if settings.secret_key is not None:
        return Vault(settings.secret_key.get_secret_value(), old)
    return Vault(key_file(settings.secret_key_file), old)


@asynccontextmanager
async def running(
    settings: Settings,
    *,
    clock: Clock | None = None,
    database: Database | None = None,
    jitter: random.Random | None = None,
    sandbox: bool = False,
    show_key: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[Wirephoto]:
    """The service, from its store to its workers.

    Raises InvalidSettings, Locked, StoreUnavailable, MigrationError, WrongKey, WrongStore.

    `database`: an open one in place of the one that the settings name; it is not closed here. `show_key` is told
    the first admin key where one has to be made up, before it is stored: a crash between must not lock everybody out.
    """
    clock = clock or SystemClock()
    metrics = Metrics()
    rng = jitter or random.Random()  # noqa: S311 - it spreads retries, and keeps no secret
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.data_dir.chmod(0o700)
    async with AsyncExitStack() as stack:
        if database is None:
            database = database_of(settings)
            # Also where opening fails halfway.
            stack.push_async_callback(database.close)
            await database.open()
        database.committed = metrics.committed
        await migrate(database, clock.now())
        if filled := await backfill(database):
            log.info("store.backfilled", jobs=filled)
        vault = vault_of(settings)
        await database.read(secret_key.check, vault)
        await database.write(_hold_kind, "sandbox" if sandbox else "vendors")
        node = await database.write(_join, vault, clock.now())
        metrics.node.set(node)
        core = Core(
            db=database,
            clock=clock,
            node=node,
            vault=vault,
            links=AssetLinks(settings.link_base, vault.link_key, vault.old_link_keys),
            files=asset_store(settings),
            asset_retention_ms=round(settings.asset_retention_days * 24 * retry.HOUR),
            installation=await database.write(meta.settle, "installation", secrets.token_hex(16)),
            metrics=metrics,
        )
        guard = Guard(settings.networks)
        vendors = await accounts.open_all(settings, core.db, vault, clock, stack, core.metrics)
        for contracted in vendors:
            if contracted.vendor.announces or contracted.turns.keeps_alive:
                await database.write(submissions.ask_all, contracted.name, clock.now())
        delivery_http = accounts.http(stack, settings, guard, kind=accounts.fast_http())
        source_http = accounts.http(stack, settings, Guard(settings.source_networks))
        # Of their own: a shop's answers are slow, and pictures go there.
        shop_http = accounts.http(stack, settings, guard)
        pictures, turn = Results(core), Turns()
        destinations: dict[str, Destination] = {
            "webhook": Webhook(delivery_http, clock.now),
            **{kind: shop(shop_http, clock.now, clock.sleep, pictures, turn) for kind, shop in SHOPS.items()},
        }
        schedule = settings.schedule_ms or retry.SCHEDULE
        deliver = Deliver(core, destinations, schedule, lambda: rng.uniform(-1, 1))
        core.hand_over = deliver.hand_over
        scan = delivery_scan(core, deliver)
        core.wake_deliveries = scan.wake
        streams = Streams(core, schedule, lambda: rng.uniform(-1, 1))
        replays = Replays(core)
        core.replayed = replays.wake
        destinations[streams.kind] = streams
        max_upload_bytes = round(settings.max_upload_mb * 1_000_000)
        sources = Sources(source_http, max_upload_bytes, settings.source_deadline_seconds)
        workers = crew(core, vendors, sources, settings.reply_base)

        def wake(step: str, vendor: str) -> None:
            # A job may outlive its vendor's credentials: then nobody works on it until they are back.
            worker = workers.get((step, vendor))
            if worker is not None:
                worker.wake()

        core.wake = wake

        def job_ended(job: Job) -> None:
            contracted = vendors.get(job.vendor)
            if contracted is not None:
                contracted.turns.job_ended(job.row)

        core.job_ended = job_ended
        heart = Heart(core)
        windows_ms = [
            round(window.seconds * 1000) for contracted in vendors for window in contracted.vendor.pace.windows
        ]
        events_ms = round(settings.event_retention_days * 24 * retry.HOUR)
        retention = Retention(core, events_ms, max(windows_ms, default=0))
        presence = Presence(core, streams)
        resealing = Resealing(core)
        site = Site(
            core=core,
            accept=Accept(core, vendors),
            deliver=deliver,
            replays=replays,
            destinations=destinations,
            vendors=vendors,
            guard=guard,
            cursors=Cursors(vault),
            waiting=Waiting(core.bells, clock),
            following=Following(core),
            places=Places(clock.now),
            streams=streams,
            lookups=Lookups(clock),
            called_back=settings.reply_base is not None,
            max_upload_bytes=max_upload_bytes,
            metrics_token=None if settings.metrics_token is None else settings.metrics_token.get_secret_value(),
            alive={
                "deliver": scan,
                "heartbeat": heart,
                "retention": retention,
                "replays": replays,
                "presence": presence,
                "resealing": resealing,
                **{f"{step} {vendor}": worker for (step, vendor), worker in workers.items()},
            },
        )
        made_key = await _admin_key(core, settings, show_key)
        for contracted in vendors:
            await trouble.take_up(core, contracted)
        # Before anything else the tasks that die unasked.
        urgent = [workers[POLL, contracted.name] for contracted in vendors if contracted.turns.keeps_alive]
        chores = (scan, heart, retention, replays, resealing, presence)
        everyone = [*urgent, *chores, *(one for one in workers.values() if one not in urgent)]
        for worker in urgent:
            worker.start()
        await _all_asked(vendors)
        for other in everyone:
            if other not in urgent:
                other.start()
        try:
            yield Wirephoto(settings, core, site, made_key, heart.lost)
        finally:
            last = [*urgent, heart]
            others = [worker for worker in everyone if worker not in last]
            for contracted in vendors:
                contracted.turns.cut(all_but_kept=True)
            # Together: what one finishes may be another's next work, which the store keeps.
            senders = (deliver.stop(GRACE_SECONDS), streams.stop(GRACE_SECONDS))
            await asyncio.gather(*senders, *(worker.stop(GRACE_SECONDS) for worker in others))
            # Only now: a paid call may be waited for longer than a task lives unasked.
            for contracted in vendors:
                contracted.turns.cut()
            await asyncio.gather(*(worker.stop(GRACE_SECONDS) for worker in last))
            try:
                await database.write(nodes.end, node, clock.now())
            except StoreUnavailable as error:
                # The next start takes over what this node holds.
                log.warning("node.not_ended", error=str(error))


async def _all_asked(vendors: Vendors) -> None:
    """A hundred other beginnings at once would take the time that these tasks no longer have."""
    with suppress(TimeoutError):
        async with asyncio.timeout(URGENT_SECONDS):
            for contracted in vendors:
                await contracted.turns.all_asked()


async def _hold_kind(tx: Tx, kind: str) -> None:
    """Jobs that stand-ins have begun must never be asked for at the real vendors, nor the other way round."""
    held = await meta.get(tx, "kind")
    if held is None:
        await meta.put(tx, "kind", kind)
    elif held != kind:
        other = "the sandboxes" if held == "sandbox" else "real vendors"
        raise WrongStore(f"this store holds jobs of {other}: choose another DATA_DIR or DATABASE_URL")


async def _join(tx: Tx, vault: Vault, now: int) -> int:
    """A new node. The store's lock says that we are alone on it, so all earlier ones are dead at once."""
    await secret_key.join(tx, vault)
    node = await nodes.add(tx, now, vault.fingerprint)
    await nodes.take_over_all(tx, node, now)
    return node


async def _admin_key(core: Core, settings: Settings, show_key: Callable[[str], None]) -> str | None:
    """Make the first project with its first key; the key that was made up for it, if it was.

    A key in the settings that the store has never seen becomes an admin key of the first project: who can set it owns
    the installation anyway, and so a lost key is no lost installation. A revoked one stays revoked.
    """
    project = await core.db.read(projects.first)
    given = None if settings.api_key is None else settings.api_key.get_secret_value()
    if project is None:
        key = given or security_keys.new_key()
        if given is None:
            show_key(key)
        await core.db.write(add_project, core, "default", key, "first key")
        return None if given else key
    if given is not None and await core.db.write(_add_if_new, core, project, given):
        log.warning("api_key.added", reason="the key in the settings was new")
    return None


async def _add_if_new(tx: Tx, core: Core, project: int, key: str) -> bool:
    key_hash = security_keys.hash_of(key)
    if await keys.exists(tx, key_hash):
        return False
    now = core.clock.now()
    await keys.add(tx, project, ids.new_id("key", now), Role.ADMIN, "from the settings", key_hash, now)
    return True
