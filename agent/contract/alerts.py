"""What a kiosk raises the alarm about: the one table that alarms, configuration, rules and documentation are made from.

Each alert watches one number. It is a warning or critical while that number is beyond a threshold: for
`raise_after_s` before it is raised, and back behind the threshold by `hysteresis` for `clear_after_s` before it is
cleared. A number that nobody can tell neither raises nor clears (agent.courier.trigger).

Numbers of seconds say how long something has been so; their thresholds are its minimum duration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from agent.contract.messages import Severity, Value
from agent.units import Size, human_bytes, human_seconds

Direction = Literal["above", "below"]
"""On which side of its thresholds an alert's number is bad; the threshold itself is still good."""

OFF: Final = None
"""A threshold that nothing passes."""

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert, with the defaults of its thresholds."""

    name: str
    description: str
    """What is wrong, for a person."""
    watches: str
    """The number, in words."""
    unit: str
    """As in the metrics table."""
    metric: str | None = None
    """The metric that it is, if it is one."""
    direction: Direction = "above"
    warning: float | None = OFF
    critical: float | None = OFF
    hysteresis: float = 0.0
    raise_after_s: float = 0.0
    clear_after_s: float = 0.0
    why: str
    """Why these defaults."""
    advice: str
    """What to do, for a person."""


@dataclass(frozen=True, slots=True)
class Raised:
    """One alert that is raised. It changes with its severity, not with every value: that is in the telemetry."""

    severity: Severity
    since_ns: int
    """Wall time, by the kiosk's clock of then, since when it has been so: it is raised `raise_after` later."""
    text: str
    """For a person: what is wrong, and after "\\n  → " what to do."""
    value: Value = None
    """At the moment at which it got this severity."""
    threshold: float | None = None
    """The limit that `value` passed."""


ALERTS: Final = (
    Alert(
        name="upload_success_rate",
        description="few uploads succeed",
        watches="verified of finished attempts, last hour",
        unit="%",
        metric="upload_success_rate_pct",
        direction="below",
        warning=90,
        critical=85,
        hysteresis=2,
        raise_after_s=5 * _MINUTE,
        clear_after_s=_MINUTE,
        why="after one refused attempt at the beginning the rate is 0 %: minutes tell a fault from that",
        advice="`kiosk-recorder config check --online` tries the store; the line to it may be bad",
    ),
    Alert(
        name="error_rate",
        description="recordings are damaged or lost",
        watches="segments with errors of all segments, last hour",
        unit="%",
        metric="error_rate_pct",
        warning=5,
        critical=10,
        hysteresis=1,
        raise_after_s=_MINUTE,
        clear_after_s=_MINUTE,
        why="a damaged recording doesn't mend: a minute is enough",
        advice="`kiosk-recorder verify` names them; the card may be dying",
    ),
    Alert(
        name="queue_length",
        description="recordings wait to be uploaded",
        watches="recordings that are due; none outside of the upload hours",
        unit="1",
        metric="queue_length",
        warning=10,
        critical=20,
        hysteresis=2,
        raise_after_s=5 * _MINUTE,
        clear_after_s=_MINUTE,
        why="when the upload hours begin or the network returns, a queue is no fault: it is one if it doesn't drain",
        advice="`kiosk-recorder config check --online` tries the store",
    ),
    Alert(
        name="storage",
        description="much audio waits to be uploaded",
        watches="bytes of the recordings that are due; none outside of the upload hours",
        unit="By",
        metric="spool_bytes_due",
        warning=100e6,
        critical=500e6,
        hysteresis=10e6,
        raise_after_s=5 * _MINUTE,
        clear_after_s=_MINUTE,
        why="as queue_length",
        advice="`kiosk-recorder config check --online` tries the store; at the cap the oldest would be given up",
    ),
    Alert(
        name="capture_stalled",
        description="nothing is recorded",
        watches="how long the recorder hasn't recorded although it should: it is gone, stuck, or its spool is full",
        unit="s",
        warning=30,
        critical=2 * _MINUTE,
        clear_after_s=10,
        why="an upgrade restarts the recorder within seconds; a missing microphone has an alert of its own",
        advice="`kiosk-recorder status` tells why; `systemctl restart kiosk-recorder.service`",
    ),
    Alert(
        name="microphone_missing",
        description="the microphone is missing, or doesn't answer",
        watches="how long the recorder has been looking for it",
        unit="s",
        warning=10,
        critical=_MINUTE,
        clear_after_s=10,
        why="recording goes on 5 s after a microphone is back: what lasts longer needs a hand",
        advice="look whether it is plugged in; `kiosk-recorder mics` lists what is there",
    ),
    Alert(
        name="no_signal",
        description="the microphone hears nothing",
        watches="loudness of the last second, while the microphone is open; also when voice mode records nothing",
        unit="dBFS",
        metric="level_rms_dbfs",
        direction="below",
        warning=-90,
        critical=-110,
        hysteresis=3,
        raise_after_s=5 * _MINUTE,
        clear_after_s=10,
        why="-90 is the last of 16 bits; a night's quiet room (30 dB SPL) before a digital microphone without gain "
        "(-26 dBFS at 94 dB SPL, 65 dB of signal to noise) still reads -87, a dead one or digital silence -120",
        advice="look for a mute switch, a loose plug, a volume at zero (`alsamixer`); speak, and watch the level in "
        "`kiosk-recorder status`",
    ),
    Alert(
        name="clipping",
        description="the microphone is overdriven",
        watches="clipped samples, mean of the seconds looked at in the last minute",
        unit="%",
        warning=0.1,
        critical=1,
        hysteresis=0.05,
        raise_after_s=_MINUTE,
        clear_after_s=_MINUTE,
        why="0.1 % of a minute is 60 ms at full scale: a slammed door is over before, speech that clips isn't",
        advice="lower the microphone's gain (`alsamixer`), or move it away from the speaker",
    ),
    Alert(
        name="clock_unsynchronised",
        description="the clock isn't synchronised",
        watches="how long no time source has disciplined the clock, as far as the courier has seen",
        unit="s",
        warning=10 * _MINUTE,
        critical=_DAY,
        clear_after_s=_MINUTE,
        why="after upload.clock_wait (10 min) the store's clock serves instead; in a day a crystal drifts by seconds. "
        "The kernel itself notices a lost time source after some 9 hours (16 s at 500 ppm)",
        advice="`timedatectl timesync-status` tells which time server is asked; is port 123 (NTP) open?",
    ),
    Alert(
        name="undervoltage",
        description="the power supply is too weak",
        watches="1 if the supply's voltage is too low or was in the last 30 s, else 0",
        unit="1",
        metric="undervoltage",
        warning=0,
        clear_after_s=10 * _MINUTE,
        why="the firmware's limit is 4.63 V (raspberrypi.com, power supply warnings); weak ones dip time and again",
        advice="use the Raspberry Pi's own power supply and a short cable: cards are damaged by weak ones",
    ),
    Alert(
        name="temperature",
        description="the processor is hot",
        watches="temperature of the processor",
        unit="Cel",
        metric="cpu_temp_c",
        warning=80,
        critical=85,
        hysteresis=5,
        raise_after_s=_MINUTE,
        clear_after_s=_MINUTE,
        why="a Raspberry Pi slows down from 80 °C on, and as far as it can at 85 °C (raspberrypi.com, frequency "
        "management and thermal control)",
        advice="give the case air, or a fan; keep it out of the sun",
    ),
    Alert(
        name="disk",
        description="the card is nearly full",
        watches="free of what is to stay free on the card: spool.keep_free, and 1000 files; the scarcer of both",
        unit="%",
        direction="below",
        warning=100,
        critical=50,
        hysteresis=10,
        raise_after_s=_MINUTE,
        clear_after_s=_MINUTE,
        why="below 100 % recordings are given up to make room for others; a recording and its sidecar are two files",
        advice="`df -h`, `df -i` and `du -x` show what fills it; on a small card lower spool.cap",
    ),
    Alert(
        name="disk_error",
        description="the card makes errors",
        watches="errors of the file system since its last repair, recordings damaged or lost in the last hour, and 1 "
        "while the file system refuses writers",
        unit="1",
        critical=0,
        clear_after_s=_MINUTE,
        why="a card in good order makes none",
        advice="replace the card soon: recordings are uploaded from it meanwhile. A restart checks the file system",
    ),
    Alert(
        name="direct_path",
        description="recordings stay in memory because they can't go to the card: a power cut would cost them",
        watches="how long they have, unless that was chosen",
        unit="s",
        critical=3,
        clear_after_s=10,
        why="each moment counts; the card is tried again every 5 s",
        advice="look at the card: is it full, read-only, dying? Recording goes back to it by itself",
    ),
    Alert(
        name="evicted_unsent",
        description="recordings were given up before they were uploaded",
        watches="how many in the last hour, as far as the courier has seen",
        unit="1",
        critical=0,
        why="each one is lost",
        advice="uploads are too slow or stand still, or spool.cap or spool.max_age is too small",
    ),
    Alert(
        name="credentials",
        description="the store refuses this kiosk, and only a person can help",
        watches="how long uploads have stood still for that: wrong or expired credentials, no such bucket",
        unit="s",
        warning=_MINUTE,
        critical=_HOUR,
        clear_after_s=10,
        why="credentials that are being renewed may fail for a moment; recordings are kept while the spool has room",
        advice="`kiosk-recorder config check --online` tries the store",
    ),
    Alert(
        name="custody",
        description="the chain of custody is interrupted",
        watches="1 if a damaged ledger was set aside or another one began today, 2 if the journal's chain is broken",
        unit="1",
        warning=0,
        critical=1,
        clear_after_s=_MINUTE,
        why="a new ledger proves nothing of what was before it; a broken chain is damage or forgery",
        advice="save state/damaged-* elsewhere, then remove it; `kiosk-recorder verify` tells where a chain is broken",
    ),
)

NAMES: Final = tuple(alert.name for alert in ALERTS)

BY_NAME: Final = {alert.name: alert for alert in ALERTS}


def amount(row: Alert, value: float) -> str:
    """A number that an alert watches, for reading."""
    match row.unit:
        case "s":
            return human_seconds(value)
        case "By":
            return str(Size(value)) if value % 10**6 == 0 else human_bytes(round(value))
        case "Cel":
            return f"{value:g} °C"
        case "1":
            return f"{value:g}"
        case _:
            return f"{value:g} {row.unit}"
