"""`wirephoto jobs`: what was asked for, how it went, and once more what failed."""

import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from service.client import Client, Json, place
from service.commands import completing
from service.commands.codes import example
from service.commands.shared import Server, client_command, pairs, printable, show_table
from service.commands.watching import Batch, Work, why

JOBS = "/v1/jobs"
DEFAULT_LIMIT = 50
_ID = "job_01m7y9dz7k7yx6crsbkvdbxvge"

_job_id = click.argument("job_id", metavar="ID", shell_complete=completing.JOBS)


@click.group()
def jobs() -> None:
    """Jobs: look for them, look at one, try a failed one again."""


@jobs.command(
    "list",
    epilog=example(
        "wirephoto jobs list --state failed --operation vanceai/enlarge3",
        "wirephoto jobs list --metadata product_id=8411 --all --json",
    ),
)
@click.option("--state", shell_complete=completing.JOB_STATES, help="Only jobs in this state, such as failed.")
@click.option("--operation", shell_complete=completing.OPERATIONS, help="Only jobs of this operation.")
@click.option("--vendor", shell_complete=completing.VENDORS, help="Only jobs of this vendor.")
@click.option(
    "--metadata",
    multiple=True,
    callback=pairs,
    help="KEY=VALUE, only jobs with it; several times: with all of them.",
)
@click.option(
    "--limit",
    type=click.IntRange(1),
    default=DEFAULT_LIMIT,
    show_default=True,
    help="How many at most, the newest first.",
)
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@client_command
def list_jobs(
    server: Server,
    state: str | None,
    operation: str | None,
    vendor: str | None,
    metadata: dict[str, str],
    limit: int,
    everything: bool,
) -> None:
    """Jobs, the newest first."""
    chosen = {"state": state, "operation": operation, "vendor": vendor}
    query: dict[str, str | int] = {name: value for name, value in chosen.items() if value is not None}
    query |= {f"metadata.{key}": value for key, value in metadata.items()}
    most = None if everything else limit
    found = server.run(lambda client: client.all(JOBS, most, **query))
    rows = [{**job, "why": why(job["error"]) if job["error"] else ""} for job in found]
    columns = {
        "ID": "id",
        "STATE": "state",
        "OPERATION": "operation",
        "CREATED": "created_at",
        "FINISHED": "finished_at",
        "WHY": "why",
    }

    def for_people() -> None:
        show_table(columns, rows)
        if len(found) == most:
            click.echo(f"The newest {most}; more with --limit or --all.", err=True)

    server.show(found, for_people)


@jobs.command(epilog=example(f"wirephoto jobs show {_ID} --timeline"))
@_job_id
@click.option("--timeline", is_flag=True, help="Every step with its time.")
@client_command
def show(server: Server, job_id: str, timeline: bool) -> None:
    """One job: what was asked, what came of it, and with --timeline every step."""
    job, steps = server.run(lambda client: _look(client, job_id, timeline=timeline))
    server.show(job if steps is None else {**job, "timeline": steps}, lambda: _describe(job, steps))


async def _look(client: Client, job_id: str, *, timeline: bool) -> tuple[Json, list[Json] | None]:
    if not timeline:
        return await client.job(job_id), None
    job, told = await asyncio.gather(client.job(job_id), client.get(place(JOBS, job_id, "timeline")))
    return job, told["data"]


@jobs.command(epilog=example(f"wirephoto jobs retry {_ID} --wait -o big.jpg"))
@_job_id
@click.option("--idempotency-key", help="The same key never makes a second job.")
@click.option("--wait", is_flag=True, help="Wait until the new job has ended; success only if it succeeded.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Where the result goes: a file (its name has an ending) or a folder. Waits.",
)
@client_command
def retry(server: Server, job_id: str, idempotency_key: str | None, wait: bool, output: Path | None) -> None:
    """Run a failed or canceled job again, as a new job with its own id. It is paid for like any other."""

    async def again(client: Client, *, wait: bool, uploaded: Callable[[int], None]) -> Json:
        _ = wait, uploaded
        made: Json = await client.post(place(JOBS, job_id, "retry"), idempotency_key=idempotency_key)
        return made

    batch = Batch(server, wait=wait, output=output, single=True)
    sys.exit(server.run(lambda client: batch.run(client, [Work(job_id, again)])))


@jobs.command(epilog=example(f"wirephoto jobs cancel {_ID}"))
@_job_id
@client_command
def cancel(server: Server, job_id: str) -> None:
    """Cancel a job, at once. What its vendor has begun may be charged all the same."""
    job = server.run(lambda client: client.post(place(JOBS, job_id, "cancel")))
    server.show(job, lambda: click.echo(f"{job['id']} {job['state']}"))


def _describe(job: Json, steps: list[Json] | None) -> None:
    for name, text in _facts(job).items():
        if text:
            click.echo(f"{name + ':':<12} {printable(text)}")
    for output in job["outputs"]:
        size = f"{output['width']}×{output['height']}"
        click.echo(f"{output['name'] + ':':<12} {output['content_type']} {size}, {output['bytes']} bytes")
        # A whole line for itself: a link that a terminal cuts can't be opened.
        click.echo(f"  {output['url']}")
    if steps is not None:
        click.echo("")
        rows = [{**step, "facts": _rest(step)} for step in steps]
        show_table({"AT": "at", "STEP": "step", "FACTS": "facts"}, rows)


def _facts(job: Json) -> Mapping[str, str]:
    bill = job["billing"]
    doubt = ", possibly twice" if bill["possible_duplicate"] else ""
    return {
        "id": job["id"],
        "state": job["state"] + (f" ({job['progress']} %)" if job["progress"] and not job["finished_at"] else ""),
        "operation": job["operation"],
        "retry of": job.get("retry_of") or "",
        "why": why(job["error"]) if job["error"] else "",
        "created": job["created_at"],
        "submitted": job["submitted_at"] or "",
        "finished": job["finished_at"] or "",
        "vendor task": job["vendor_task_id"] or "",
        "params": _named(job["params"]),
        "metadata": _named(job["metadata"]),
        "channels": ", ".join(job["channels"]),
        "charged": bill["charged"] + (f", {bill['credits']} credits" if bill["credits"] else "") + doubt,
    }


def _rest(step: Json) -> str:
    return _named({name: value for name, value in step.items() if name not in ("at", "step") and value is not None})


def _named(values: Mapping[str, Any]) -> str:
    return printable(" ".join(f"{name}={value}" for name, value in values.items()))
