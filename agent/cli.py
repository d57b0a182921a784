"""The command line: arguments in, exit status out. What the commands do is in `agent.commands`.

Everything heavy is imported by the command that needs it, so that `record` starts at once (docs/CLI.md).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from agent import __version__
from agent.terminal import lead, say

_DEBUG = "KIOSK_RECORDER_DEBUG"
_ENVIRONMENT = Path("/etc/kiosk-recorder/environment")

# Without rich: formatting help with it takes longer than everything else a short command does.
_PLAIN = {"rich_markup_mode": None, "pretty_exceptions_enable": False, "no_args_is_help": True}

app = typer.Typer(add_completion=False, **_PLAIN)  # type: ignore[arg-type]
config_app = typer.Typer(**_PLAIN)  # type: ignore[arg-type]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; else $KIOSK_RECORDER_CONFIG, else /etc/kiosk-recorder/config.toml.",
    ),
]
Identities = Annotated[
    list[Path] | None,
    typer.Option("-i", "--identity", metavar="KEY", help="A file with a secret key of age or SSH."),
]
Environment = Annotated[
    Path, typer.Option("--environment", metavar="FILE", help="The environment that the services have.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: one JSON document on standard output.")]


Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help='"2026-03-01 08:00", "08:00", "yesterday", "2h" (ago).')
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="As --since.")]


def _example(arguments: str) -> str:
    return f"Example: kiosk-recorder {arguments}"


app.add_typer(
    config_app,
    name="config",
    help="Show, check and describe the configuration.",
    epilog=_example("config check --config room.toml"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"kiosk-recorder {__version__}")
        raise typer.Exit


@app.callback(epilog=_example("run --config room.toml"))
def common(
    version: Annotated[  # noqa: ARG001 (its callback does it)
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help=f"Show where in the program an error came from; as {_DEBUG}=1.")
    ] = False,
) -> None:
    """Records a clinic room: microphone to FLAC, kept within a hard cap, sent to a store, told to a broker.

    Exit status: 0 good, 1 found something wrong, 2 could not run.
    """
    if debug:
        os.environ[_DEBUG] = "1"


@app.command(epilog=_example("record --config room.toml"))
def record(config: ConfigFile = None) -> None:
    """Hear the room and keep what it hears.

    In the foreground, until told to stop: this is what systemd runs.
    """
    from agent.commands.starting import become
    from agent.config import load

    become("recorder", load(config, os.environ))


@app.command(epilog=_example("courier --once"))
def courier(
    config: ConfigFile = None,
    once: Annotated[bool, typer.Option("--once", help="Upload what waits, then end.")] = False,
) -> None:
    """Upload recordings and report to the broker.

    In the foreground, until told to stop: this is what systemd runs.
    """
    from agent.commands.starting import become
    from agent.config import load

    become("courier", load(config, os.environ), *(["--once"] if once else []))


@app.command(epilog=_example("run --config room.toml"))
def run(config: ConfigFile = None) -> None:
    """Record and upload, without systemd.

    Recorder and courier in the foreground, started again if need be, until Ctrl-C ends both in good order.
    """
    from agent.commands import running
    from agent.config import load

    raise typer.Exit(running.run(load(config, os.environ)))


@app.command(epilog=_example("status --json"))
def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Tell how the kiosk is doing.

    What it does and since when, whether that is well, and what to do if it isn't. 1 when something is wrong.
    """
    from agent.commands import kiosk
    from agent.commands import status as command

    raise typer.Exit(command.status(kiosk.find(config), as_json=as_json))


@app.command("list", epilog=_example("list --state pending --since 2h"))
def list_(
    config: ConfigFile = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE", help="Only these: pending, acknowledged, damaged, evicted, quarantined, lost, erased."
        ),
    ] = None,
    since: Since = None,
    until: Until = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run.")] = None,
    here: Annotated[bool, typer.Option("--here", help="Only those whose file is still here.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the newest so many.")] = None,
    as_json: AsJson = False,
) -> None:
    """List recordings and what became of them.

    Oldest first. A "?" marks a time whose clock was never right.
    """
    from agent.commands import kiosk, listing

    found = kiosk.find(config)
    begin_ns, end_ns = kiosk.between(found, since, until)
    choice = listing.Choice(state, begin_ns, end_ns, run, here, limit)
    raise typer.Exit(listing.list_segments(found, choice, as_json=as_json))


@app.command(epilog=_example("timeline --since yesterday"))
def timeline(config: ConfigFile = None, since: Since = None, until: Until = None, as_json: AsJson = False) -> None:
    """Account for all of the time.

    Recordings, gaps with their reason, power cuts. 1 when it doesn't add up.
    """
    from agent.commands import kiosk
    from agent.commands import timeline as command

    found = kiosk.find(config)
    begin_ns, end_ns = kiosk.between(found, since, until)
    raise typer.Exit(command.show(found, since_ns=begin_ns, until_ns=end_ns, as_json=as_json))


@app.command(epilog=_example("verify --repair"))
def verify(
    config: ConfigFile = None,
    fast: Annotated[bool, typer.Option("--fast", help="Measure files, but don't read and hash them.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Put right what the recorder would at its next start; it mustn't run.")
    ] = False,
    keys: Identities = None,
    as_json: AsJson = False,
) -> None:
    """Check spool and ledger, changing nothing unless told to.

    Every file against its sidecar and the ledger, and the ledger against itself. 1 for what is, or is left, wrong.
    """
    from agent.commands import kiosk
    from agent.commands import verify as command

    raise typer.Exit(command.verify(kiosk.find(config), fast=fast, repair=repair, as_json=as_json, keys=keys or []))


@app.command(epilog=_example('erase --last 10m --reason "asked by the patient"'))
def erase(
    config: ConfigFile = None,
    last: Annotated[str | None, typer.Option(metavar="TIME", help='Everything since so long ago: "10m", "2h".')] = None,
    begin: Annotated[
        str | None, typer.Option("--from", metavar="TIME", help='Or from then on: "08:00", "2026-03-01 08:00".')
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Until then; else until now.")] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Why, for the journal.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Erase recordings of a stretch of time, for ever.

    Whole ones, also what is being recorded. A tombstone tells the store which of them it holds.
    """
    from agent.commands import erasing, kiosk

    span = erasing.Span(last, begin, end)
    raise typer.Exit(erasing.erase(kiosk.find(config), span, reason, yes=yes, as_json=as_json))


@app.command("open", epilog=_example("open s3://clinics/north/room-12 -i KEY --from 08:00 --to 09:30 -o morning.flac"))
def open_(
    given: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE|DIR|s3://…|SEGMENT",
            help="Where they are; segments as `list` names them. None: the kiosk's own spool.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Where to: a .flac or .wav file.")] = ...,  # type: ignore[assignment]
    keys: Identities = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="All of this run that is there.")] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="TIME",
            help="From then on, in time, with silence between.",
        ),
    ] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="Up to then.")] = None,
    each: Annotated[bool, typer.Option("--each", help="Each by itself, into the directory -o.")] = False,
    endpoint_url: Annotated[str, typer.Option(metavar="URL", help="Of a store that isn't AWS.")] = "",
    over_gaps: Annotated[bool, typer.Option("--over-gaps", help="Join what doesn't follow each other, too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it's there.")] = False,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Join recordings into one file to listen to.

    Torn and unfinished ones are read as far as they go, encrypted ones with a key of somebody they are encrypted to.
    """
    from agent.commands.opening import Wish, open_recordings

    wish = Wish(given or [], run, since, until, keys or [], out, each, force, over_gaps, endpoint_url, config)
    raise typer.Exit(open_recordings(wish, as_json=as_json))


@app.command(epilog=_example("enrol -o room-12.json"))
def enrol(
    config: ConfigFile = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="Where to; else standard output.")
    ] = None,
) -> None:
    """Make this device's signing key and tell its public half.

    The key stays here and is never replaced. The file is for the admin: `kiosk-fleet verify` goes by it.
    """
    from agent.commands.enrolling import enrol as command
    from agent.config import load

    raise typer.Exit(command(load(config, os.environ), out))


@app.command(epilog=_example("mics --json"))
def mics(as_json: AsJson = False) -> None:
    """List the microphones.

    By the stable names that `capture.pcm` takes. 1 when there is none.
    """
    from agent.commands.mics import list_microphones

    raise typer.Exit(list_microphones(as_json=as_json))


@app.command(epilog=_example("check --report room-12.html"))
def check(
    config: ConfigFile = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="AREA", help="Only this area; can be given several times.")
    ] = None,
    skip: Annotated[list[str] | None, typer.Option("--skip", metavar="AREA", help="All but this area.")] = None,
    seconds: Annotated[float, typer.Option(min=1, max=300, metavar="N", help="How long to listen.")] = 10,
    clap: Annotated[
        bool | None, typer.Option("--clap/--no-clap", help="Ask for a clap; else only where a person is there.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page to print: .html or .txt.")
    ] = None,
    identity: Annotated[
        list[Path] | None,
        typer.Option("-i", "--identity", metavar="KEY", help="Open the recording again with this secret key."),
    ] = None,
    environment: Environment = _ENVIRONMENT,
    as_json: AsJson = False,
) -> None:
    """Check a kiosk before it is left alone.

    Microphone, recording, store, broker, clock, card, machine, software: each tried for real. 1 when anything is red.
    """
    from agent.commands import check as command

    wish = command.Wish(only or [], skip or [], seconds, clap, report, environment, identity or [])
    raise typer.Exit(command.check(config, wish, as_json=as_json))


@app.command("support-bundle", epilog=_example("support-bundle room-12.tar.gz"))
def support_bundle(
    out: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A .tar.gz; else named by the kiosk and the time.")
    ] = None,
    config: ConfigFile = None,
    environment: Environment = _ENVIRONMENT,
    as_json: AsJson = False,
) -> None:
    """Put what a helper needs to see into one file.

    Logs, status, ledger summary, the last day, hardware, the configuration; no audio, no keys, no passwords.
    """
    from agent.commands.bundle import bundle

    raise typer.Exit(bundle(config, out, environment, as_json=as_json))


@app.command("try", epilog=_example("try --seconds 20 --sealed"))
def try_(
    seconds: Annotated[float | None, typer.Option(min=1, metavar="N", help="End by itself after so long.")] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep everything in this directory afterwards.")
    ] = None,
    pcm: Annotated[
        str | None,
        typer.Option(metavar="PCM", help="Listen to this ALSA PCM instead of what is found, such as hw:CARD=KioskMic."),
    ] = None,
    plain_output: Annotated[bool, typer.Option("--plain", help="Lines instead of a live picture.")] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Encrypt recordings, to a key made for this, and open what comes back.")
    ] = False,
) -> None:
    """Show the whole thing at work.

    Microphone, spool, a store and a broker of its own on this machine, and what came back from the store.
    """
    from agent.demo import run_try

    raise typer.Exit(run_try(seconds=seconds, keep=keep, pcm=pcm, plain_output=plain_output, sealed=sealed))


@config_app.command("show", epilog=_example("config show"))
def config_show(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print every key as it stands.

    As a configuration file that says the same, each key with its default.
    """
    from agent.commands import configuration

    raise typer.Exit(configuration.show(config, as_json=as_json))


@config_app.command("check", epilog=_example("config check --config room.toml --online"))
def config_check(
    config: ConfigFile = None,
    online: Annotated[bool, typer.Option("--online", help="Also try the store and the broker.")] = False,
    as_json: AsJson = False,
) -> None:
    """Find every mistake in the file.

    Also says what a clinic shouldn't leave as it is. 1 when a far end doesn't answer, 2 when something can't be used.
    """
    from agent.commands import configuration

    raise typer.Exit(configuration.check(config, online=online, as_json=as_json))


@config_app.command("schema", epilog=_example("config schema > config.schema.json"))
def config_schema() -> None:
    """Print the JSON schema of the file.

    For editors, and for programs that write one.
    """
    from agent.commands import configuration

    raise typer.Exit(configuration.schema())


def main() -> NoReturn:
    """Run one command and exit with its status."""
    lead(lambda: app(prog_name="kiosk-recorder"), _DEBUG)


if __name__ == "__main__":
    main()
