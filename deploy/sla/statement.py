#!/usr/bin/env python3
"""The monthly statement of a region: outage windows in, availability per service out.

An example of an SLA engine, to copy from. It computes what section 6 of the specification says and agrees with `vigie report` to the
microsecond, from either place where windows are published, in whatever order and however often they were revised or delivered:

    statement.py --month 2026-11 --topic windows.ndjson --as-of 1796083200000000 --catalogue region.toml --exclusions exclusions.ndjson
    statement.py --month 2026-11 --clickhouse http://clickhouse:8123 --database vigie --user sla --password-file sla.password

What each figure needs:

    gross_down_us                                       windows
    base_us, elapsed_us, budget_us                      the catalogue, and how far the region has come (`as of`)
    down_us, remaining_us, availability,
    availability_to_date, final                         both, and every revision of every exclusion
    unknown_us, availability_low                        gaps besides: null without them
    verdict                                             gaps, unless the month is breached or not final yet: else null without them

The topic carries windows and nothing else. It is silent while all is well, so it cannot say how far the region has come: `--as-of` does,
the `frontier_us` of any answer of the API, and younger messages are left for the next statement. `--exclusions` are records of evidence
with their `appended_at`, all revisions; other records among them are skipped, as are those that the region refused, by its rules and the
catalogue at hand; of a record that went into the logs of several groups the earliest counts. `--gaps` are rows of the table `gaps`.

In the tables there is everything, and only what is complete up to the frontier is read: however live, the result is consistent.

Where it says less than `vigie report`, and never more:
  * A service without a written `since` (no contractual one is) is left out: its measurement begins with its first sample.
  * A month stays provisional for longer if a customer ended one of its windows after supervision had: a window does not tell when that was.
  * Latencies, which come from samples, have no line.
Where it differs:
  * Gaps are published every minute: until a month is over, its unknown time is up to a minute old.
  * An exclusion for a month that the region no longer remembers (13 months) counts here; there the figures stand as published.

Time is whole microseconds since the Unix epoch, intervals are half-open, percentages are derived once, last, and truncated.
"""

import argparse
import json
import re
import sys
import tomllib
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

FOREVER = 2**62
UNIT_US = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
FARTHEST_BACKDATING_US = 48 * UNIT_US["h"]
KINDS = "maintenance throttling ddos_blackhole customer third_party suspension force_majeure measurement_error".split()


# The contract: what was promised, in which calendar.


@dataclass(frozen=True)
class Service:
    id: str
    group: str
    indicator: str
    contractual: bool
    since: int | None
    until: int
    stable_up: int


class Catalogue:
    def __init__(self, text):
        toml = tomllib.loads(text, parse_float=str)
        self.zone = ZoneInfo(toml.get("timezone", "Europe/Paris"))
        self.late_horizon = duration_us(toml.get("late_horizon", "96h"))
        self._terms = versions_by_id(toml.get("indicator", []))
        self.services = [self._service(versions, toml) for versions in versions_by_id(toml.get("service", [])).values()]

    @staticmethod
    def _service(versions, toml):
        first, last = versions[0], versions[-1]
        return Service(
            id=first["id"],
            group=first.get("group", "main"),
            indicator=first["indicator"],
            contractual=first.get("contractual", True),
            since=instant_us(first.get("since")),
            until=FOREVER if "until" not in last else instant_us(last["until"]),
            stable_up=duration_us(first.get("stable_up", toml.get("stable_up", "30s"))),
        )

    def month(self, month):
        """The local midnights between which `month` lies, such as 2026-11."""
        year, number = map(int, month.split("-"))
        starts = datetime(year, number, 1, tzinfo=self.zone), datetime(year + number // 12, number % 12 + 1, 1, tzinfo=self.zone)
        return tuple(map(instant_us, starts))

    def terms(self, indicator, month_start):
        """Parts per million that may be down, and the kinds of exclusion that count, as promised at the month's start."""
        first, *later = self._terms[indicator]
        block = ([first] + [block for block in later if instant_us(block["since"]) <= month_start])[-1]
        return int((100 - Decimal(block["objective"])) * 10_000), block.get("exclusions", [])


def versions_by_id(blocks):
    """Blocks with one id are versions of one thing: by `since`, the one without first."""
    versions = defaultdict(list)
    for block in blocks:
        versions[block["id"]].append(block)
    for of_one in versions.values():
        of_one.sort(key=lambda block: -FOREVER if "since" not in block else instant_us(block["since"]))
    return versions


def instant_us(value):
    """An instant of a catalogue: TOML's own date-time or a string."""
    if value is None:
        return None
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    return (moment - datetime(1970, 1, 1, tzinfo=timezone.utc)) // timedelta(microseconds=1)


def duration_us(value):
    """A duration of a catalogue: `"1h30m"` or microseconds."""
    if isinstance(value, int):
        return value
    return sum(int(number) * UNIT_US[unit] for number, unit in re.findall(r"(\d+)([a-z]+)", value))


# The facts: what happened, as one log of evidence tells it.


@dataclass(frozen=True)
class Facts:
    catalogue: Catalogue
    services: list[Service]
    as_of: int
    windows: dict[str, list[dict]]
    """By service; so are the gaps."""
    gaps: dict[str, list[dict]] | None
    exclusions: list[list[dict]]
    """Of each exclusion its revisions, in order."""


def newest(versions, key):
    """Of each thing the version that counts: the highest. Order and repetition do not matter."""
    highest = {}
    for version in versions:
        known = highest.setdefault(key(version), version)
        if version["ver"] > known["ver"]:
            highest[key(version)] = version
    return highest.values()


def standing_windows(versions):
    return by_service(window for window in newest(versions, lambda window: window["id"]) if window["status"] != "retracted")


def standing_gaps(versions):
    return by_service(gap for gap in newest(versions, lambda gap: (gap["service"], gap["start_us"])) if not gap["retracted"])


def by_service(rows):
    of_each = defaultdict(list)
    for row in rows:
        of_each[row["service"]].append(row)
    return of_each


def revisions(records, catalogue):
    """The exclusions among records of evidence. Of several records with one revision the first to be appended counts."""
    services = {service.id for service in catalogue.services}
    by_id = defaultdict(dict)
    for record in records:
        if record.get("type") != "exclusion" or not is_taken(record, services):
            continue
        known = by_id[record["id"]].setdefault(record["rev"], record)
        if record["appended_at"] < known["appended_at"]:
            by_id[record["id"]][record["rev"]] = record
    return [[of_one[rev] for rev in sorted(of_one)] for of_one in by_id.values()]


SHAPE = {"v": int, "id": str, "rev": int, "kind": str, "services": list, "start": int, "end": int, "state": str, "appended_at": int}


def is_taken(exclusion, services):
    """Whether the region takes this record; one that it refuses is as if it had never been."""
    if not all(isinstance(exclusion.get(field), shape) for field, shape in SHAPE.items()):
        return False
    is_known = exclusion["v"] == 1 and exclusion["kind"] in KINDS and services.issuperset(exclusion["services"])
    return is_known and exclusion["start"] < exclusion["end"]


# The statement.


def statement(facts, month):
    """The accounts of the services that were measured in `month`."""
    month_start, month_end = facts.catalogue.month(month)
    for service in facts.services:
        if service.since is None:
            continue
        start, end = max(month_start, service.since), min(month_end, service.until)
        if start < min(end, facts.as_of):
            yield account(facts, service, month, start, end)


def account(facts, service, month, start, end):
    month_start, month_end = facts.catalogue.month(month)
    ppm, allowed_kinds = facts.catalogue.terms(service.indicator, month_start)

    windows = facts.windows[service.id]
    down = [(window["onset_us"], end_or(facts.as_of, window)) for window in windows]
    excluded = [part for exclusion in facts.exclusions for part in excluded_parts(exclusion, service.id, allowed_kinds)]
    gross_down_us = covered(start, end, down)
    down_us = covered(start, end, down, excluded) - covered(start, end, excluded)
    unknown_us = None
    if facts.gaps is not None:
        unknown = [(gap["start_us"], end_or(facts.as_of, gap)) for gap in facts.gaps[service.id]]
        unknown_us = covered(start, end, unknown, down, excluded) - covered(start, end, down, excluded)

    base_us, elapsed_us = end - start, min(end, facts.as_of) - start
    meeting = [window for window in windows if window["onset_us"] < end and end_or(facts.as_of, window) > start]
    is_final = is_settled(facts, month_end) and all(is_final_window(facts, service, window) for window in meeting)
    budget_us = base_us * ppm // 1_000_000
    return {
        "service": service.id,
        "indicator": service.indicator,
        "contractual": service.contractual,
        "month": month,
        "base_us": base_us,
        "elapsed_us": elapsed_us,
        "gross_down_us": gross_down_us,
        "down_us": down_us,
        "unknown_us": unknown_us,
        "budget_us": budget_us,
        "remaining_us": budget_us - down_us,
        "availability": percent(base_us, down_us),
        "availability_low": None if unknown_us is None else percent(base_us, down_us + unknown_us),
        "availability_to_date": percent(elapsed_us, down_us),
        "final": is_final,
        "verdict": verdict(base_us * ppm, down_us, unknown_us, is_final),
        "as_of_us": facts.as_of,
    }


def end_or(as_of, row):
    """What is open reaches as far as the region has come."""
    return as_of if row["end_us"] is None else row["end_us"]


def covered(start, end, *sets):
    """Length of the union of all intervals, within [start, end). So |A without B| is covered(A, B) - covered(B)."""
    length = 0
    for a, b in sorted(interval for intervals in sets for interval in intervals):
        a, b = max(a, start), min(b, end)
        if a < b:
            length += b - a
            start = b
    return length


def excluded_parts(revisions, service, allowed_kinds):
    """What one exclusion takes off a service."""
    counts = lambda revision: revision["state"] == "approved" and service in revision["services"]
    highest = revisions[-1]
    if not counts(highest) or highest["kind"] not in allowed_kinds:
        return []
    start, end = highest["start"], highest["end"]
    if highest["kind"] != "maintenance" or (highest.get("override_by") or "").strip():
        return [(start, end)]
    # Maintenance counts as far as it was on record before it began: nobody stretches it over an outage afterwards.
    announced = [revision for revision in revisions if counts(revision) and revision["appended_at"] < revision["start"]]
    return [(max(start, revision["start"]), min(end, revision["end"])) for revision in announced]


def is_settled(facts, instant):
    """Whether no sample can change anything before `instant` any more."""
    return instant + FARTHEST_BACKDATING_US + facts.catalogue.late_horizon <= facts.as_of


def is_final_window(facts, service, window):
    if window["end_us"] is None:
        return False
    # No other version is published when time alone makes a window final. Samples have no say in what only customers claim.
    closed = min(service.until, window["end_us"] + service.stable_up)
    return window["final"] or window["kind"] == "claim" or is_settled(facts, closed)


def percent(whole, lost):
    millionths = (whole - lost) * 100_000_000 // whole
    return f"{millionths // 1_000_000}.{millionths % 1_000_000:06}"


def verdict(allowed, down_us, unknown_us, is_final):
    """`allowed` in millionths of a microsecond: products are exact, percentages are not."""
    if down_us * 1_000_000 > allowed:
        return "breached"
    if not is_final:
        return "undecided"
    if unknown_us is None:
        return None
    return "compliant" if (down_us + unknown_us) * 1_000_000 <= allowed else "undecided"


# Where the facts come from.


def facts_from_topic(args):
    catalogue = Catalogue(args.catalogue.read_text())
    windows = standing_windows(message for message in ndjson(args.topic) if message["as_of_us"] <= args.as_of)
    gaps = None if args.gaps is None else standing_gaps(ndjson(args.gaps))
    return [Facts(catalogue, catalogue.services, args.as_of, windows, gaps, revisions(ndjson(args.exclusions), catalogue))]


def ndjson(path):
    with sys.stdin if path == "-" else open(path) as lines:
        yield from map(json.loads, filter(str.strip, lines))


def facts_from_clickhouse(args):
    """Each group of services has a log of its own, which has come as far as its frontier: rows beyond it may not all be there yet."""
    password = args.password_file.read_text().strip() if args.password_file else ""
    store = ClickHouse(args.clickhouse, args.database, args.user, password)
    frontiers = list(store.rows("SELECT log_group, ver, as_of_us FROM frontiers_current ORDER BY log_group"))
    for frontier in frontiers:
        here = {"log": frontier["log_group"], "through": frontier["ver"]}
        newest_catalogue = f"SELECT text FROM catalogues WHERE {UP_TO_HERE} ORDER BY rev DESC, ver LIMIT 1"
        for row in store.rows(newest_catalogue, **here):
            catalogue = Catalogue(row["text"])
            # A region that has only one log keeps every group in it.
            is_here = lambda service: len(frontiers) == 1 or service.group == frontier["log_group"]
            here["month_end"] = catalogue.month(args.month)[1]
            yield Facts(
                catalogue,
                list(filter(is_here, catalogue.services)),
                frontier["as_of_us"],
                standing_windows(store.rows(WINDOWS, **here)),
                standing_gaps(store.rows(GAPS, **here)),
                revisions(store.rows(EXCLUSIONS, **here), catalogue),
            )


UP_TO_HERE = "log_group = {log:String} AND ver <= {through:UInt64}"
# The start of a window or gap is the same in all its versions, so that it may be filtered before the highest is taken. No end may.
WINDOWS = f"""SELECT id, ver, service, kind, status, onset_us, end_us, final FROM windows
    WHERE {UP_TO_HERE} AND onset_us < {{month_end:Int64}}"""
GAPS = f"SELECT service, start_us, ver, end_us, retracted FROM gaps WHERE {UP_TO_HERE} AND start_us < {{month_end:Int64}}"
# As the records that they were.
EXCLUSIONS = f"""SELECT 1 AS v, 'exclusion' AS type, id, rev, kind, services, start_us AS `start`, end_us AS `end`, state, override_by,
    appended_us AS `appended_at` FROM exclusions WHERE {UP_TO_HERE} ORDER BY ver"""


class ClickHouse:
    def __init__(self, url, database, user, password):
        # Errors come as a status, never in the midst of rows.
        self._settings = {"database": database, "output_format_json_quote_64bit_integers": 0, "wait_end_of_query": 1}
        self._url = url.rstrip("/")
        self._login = {"X-ClickHouse-User": user, "X-ClickHouse-Key": password}

    def rows(self, query, **parameters):
        settings = self._settings | {f"param_{name}": value for name, value in parameters.items()}
        body = f"{query} FORMAT JSONEachRow".encode()
        request = urllib.request.Request(f"{self._url}/?{urllib.parse.urlencode(settings)}", body, self._login)
        try:
            with urllib.request.urlopen(request) as lines:
                yield from map(json.loads, lines)
        except urllib.error.HTTPError as error:
            sys.exit(f"statement: {error.read().decode(errors='replace').strip()}")


# The program.


def span(us):
    return "-" if us is None else f"{'-' if us < 0 else ''}{timedelta(microseconds=abs(us))}"


def table(accounts):
    rows = [("service", "indicator", "down", "excluded", "unknown", "left of budget", "availability", "at worst", "verdict")]
    for line in accounts:
        rows.append((
            line["service"],
            line["indicator"] + ("" if line["contractual"] else " (not contractual)"),
            span(line["down_us"]),
            span(line["gross_down_us"] - line["down_us"]),
            span(line["unknown_us"]),
            span(line["remaining_us"]),
            f"{line['availability']} %",
            "-" if line["availability_low"] is None else f"{line['availability_low']} %",
            (line["verdict"] or "not breached") + ("" if line["final"] else " (provisional)"),
        ))
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def month_of(text):
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text):
        raise argparse.ArgumentTypeError(f"`{text}` is no month: write 2026-11")
    return text


def arguments():
    parser = argparse.ArgumentParser(description="The monthly statement of a region, from its outage windows.")
    parser.add_argument("--month", required=True, type=month_of, help="such as 2026-11")
    parser.add_argument("--json", action="store_true", help="as JSON, every figure in microseconds")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--topic", metavar="FILE", help="messages of vigie.windows.v1, one per line; - reads standard input")
    source.add_argument("--clickhouse", metavar="URL", help="where the tables are")
    topic = parser.add_argument_group("with --topic")
    topic.add_argument("--as-of", metavar="US", type=int, help="how far the region has come: frontier_us in the API")
    topic.add_argument("--catalogue", metavar="FILE", type=Path)
    topic.add_argument("--exclusions", metavar="FILE", help="evidence, one record per line: all revisions, with appended_at")
    topic.add_argument("--gaps", metavar="FILE", help="rows of the table gaps, one per line; without them unknown time is not told")
    clickhouse = parser.add_argument_group("with --clickhouse")
    clickhouse.add_argument("--database", metavar="NAME", default="default")
    clickhouse.add_argument("--user", metavar="NAME", default="default")
    clickhouse.add_argument("--password-file", metavar="FILE", type=Path)
    args = parser.parse_args()
    if args.topic is not None and None in (args.as_of, args.catalogue, args.exclusions):
        parser.error("--topic needs --as-of, --catalogue and --exclusions")
    return args


def main():
    args = arguments()
    sources = facts_from_topic(args) if args.topic is not None else facts_from_clickhouse(args)
    accounts = []
    for facts in sources:
        accounts += statement(facts, args.month)
        for service in filter(lambda service: service.since is None, facts.services):
            print(f"statement: {service.id} is left out: the catalogue has no `since` of it", file=sys.stderr)
    accounts.sort(key=lambda line: (line["indicator"], line["service"]))
    if not accounts:
        sys.exit(f"statement: nothing is measured in {args.month} yet")
    print(json.dumps({"month": args.month, "accounts": accounts}, indent=2) if args.json else table(accounts))


if __name__ == "__main__":
    main()
