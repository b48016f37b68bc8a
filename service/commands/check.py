"""`wirephoto check`: is this installation fit to run, what is wrong, and how is it mended?"""

import asyncio
import json
import sys
from pathlib import Path

import click

from service.commands.codes import Code, example
from service.commands.shared import console

_MARKS = {"ok": ("ok   ", "green"), "note": ("note ", "yellow"), "fault": ("FAULT", "bold red")}


@click.command(epilog=example("wirephoto check --config wirephoto.toml"))
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="TOML file; wirephoto.toml if present.")
@click.option("--json", "as_json", is_flag=True, help="JSON on standard output.")
def check(config: Path | None, as_json: bool) -> None:
    """Look at settings, data folder, store, secret key, pictures, vendors and public URL. Changes nothing.

    Each vendor is asked one question that costs nothing; a running service is not disturbed.

    Succeeds only where nothing is at fault; notes are no faults.
    """
    from service.checkup.findings import Finding, Level
    from service.checkup.run import checkup

    findings: list[Finding] = asyncio.run(checkup(config))
    fine = all(finding.level is not Level.FAULT for finding in findings)
    if as_json:
        click.echo(json.dumps({"fine": fine, "findings": [finding.as_json() for finding in findings]}))
    else:
        out = console()
        for finding in findings:
            mark, style = _MARKS[finding.level]
            out.print(mark, style=style, end=" ")
            out.print(f"{finding.about}: {finding.says}", markup=False, soft_wrap=True)
            if finding.mend:
                out.print(f"      → {finding.mend}", markup=False, soft_wrap=True)
        out.print("Fit to run." if fine else "Not fit to run.", style="green" if fine else "bold red")
    if not fine:
        sys.exit(Code.FAILED)
