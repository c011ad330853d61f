"""`greenroom purge`: removing what nobody has used for long."""

from typing import Annotated

import typer

from greenroom.runtime.cli.database import Config, with_runtime
from greenroom.runtime.cli.output import fail, note, print_json
from greenroom.runtime.config import ConfigError, load_settings
from greenroom.runtime.retention import Purged
from greenroom.runtime.runtime import Runtime


def purge(
    *,
    sessions: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Sessions in which nothing was said for so long."),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, metavar="DAYS", help="Jobs that ended so long ago, with their results."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object, on standard output; does not ask.")
    ] = False,
    config: Config = None,
) -> None:
    r"""Remove old sessions and jobs from the database, for good.

    How old stands in the options, or in the configuration: [retention] sessions_days, jobs_days. What neither names is
    kept. Output files of jobs are not touched; spend is kept, since budgets count it.

    \b
    Examples:
      greenroom purge --sessions 90 --jobs 30 --dry-run
      greenroom purge --yes
    """
    try:
        kept = load_settings(config).retention
    except ConfigError as error:
        fail(str(error))
    sessions_days, jobs_days = sessions or kept.sessions_days, jobs or kept.jobs_days
    if sessions_days is None and jobs_days is None:
        fail("say how old: --sessions DAYS, --jobs DAYS, or [retention] in greenroom.toml")

    async def purging(rt: Runtime, *, really: bool) -> Purged:
        return await rt.purge(sessions_days=sessions_days, jobs_days=jobs_days, dry_run=not really)

    found = with_runtime(config, lambda rt: purging(rt, really=False))
    told = f"{found.sessions} sessions and {found.jobs} jobs"
    if not dry_run and (found.sessions or found.jobs):
        if not (yes or as_json):
            typer.confirm(f"Remove {told} for good?", abort=True, err=True)
        found = with_runtime(config, lambda rt: purging(rt, really=True))
    if as_json:
        print_json(found)
    else:
        note(f"{told} {'would go' if dry_run else 'removed'}")
