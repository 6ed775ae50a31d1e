#!/usr/bin/env python3
"""The example SLA engine against every conformance case: `python3 tests/sla_statement.py`, from any directory.

`VIGIE_CONFORMANCE` may name further directories of cases, separated by colons. A case tells only the windows that hold at its end, so the
history that the topic would have brought is made up. `VIGIE` may name the program: then real histories come from it, one version each time
that a longer part of the evidence gives another window, and months become final as time goes on.
"""

import contextlib
import importlib.util
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from datetime import datetime, timedelta, timezone
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy/sla/statement.py"
SCHEMA = ROOT / "aggregator/schema/windows.v1.schema.json"
WINDOWS_SQL = ROOT / "aggregator/schema/001_windows.sql"
VIGIE = os.environ.get("VIGIE")
DAY_US = 86_400_000_000

sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("statement", SCRIPT)
statement = importlib.util.module_from_spec(spec)
spec.loader.exec_module(statement)


class Case:
    """One directory of SPEC 8."""

    def __init__(self, path):
        self.path = path
        self.catalogue = path / "catalogue.toml"
        self.evidence = path / "evidence.ndjson"
        self.expected = parse((path / "expected.ndjson").read_text())
        self.settle = statement.duration_us(tomllib.loads(self.catalogue.read_text()).get("settle", "3s"))
        note = path / "NOTE"
        until = re.search(r"run with --until (\d+)", note.read_text() if note.exists() else "")
        records = parse(self.evidence.read_text())
        self.as_of = int(until[1]) if until else self.frontier(records)

    def frontier(self, records):
        appended = (record.get("appended_at", record.get("t1")) for record in records)
        return max(us for us in appended if us is not None) - self.settle

    def catalogue_with_every_since(self, accounts):
        """The catalogue's text. Where a service is measured since its first sample, the length of its first month tells since when."""
        text = self.catalogue.read_text()
        catalogue = statement.Catalogue(text)
        for service in catalogue.services:
            first = next((line for line in accounts if line["service"] == service.id), None)
            if service.since is None and first is not None:
                since = min(catalogue.month(first["month"])[1], service.until) - first["base_us"]
                written = datetime.fromtimestamp(0, timezone.utc) + timedelta(microseconds=since)
                block = f'[[service]]\nid = "{service.id}"\n'
                text = text.replace(block, f"{block}since = {written.isoformat()}\n")
        return text


def cases():
    further = filter(None, os.environ.get("VIGIE_CONFORMANCE", "").split(":"))
    for directory in [ROOT / "tests/conformance", *map(Path, further)]:
        for expected in sorted(directory.glob("*/expected.ndjson")):
            yield Case(expected.parent)


def parse(ndjson):
    return [json.loads(line) for line in ndjson.splitlines() if line.strip()]


def of_type(lines, name):
    return [line for line in lines if line["type"] == name]


class Topic:
    """Messages of vigie.windows.v1: shuffled, many of them twice."""

    def __init__(self, as_of, seed):
        self._as_of = as_of
        self._random = random.Random(seed)
        self._ver = 3 << 48
        self._messages = []

    def publish(self, window, **difference):
        self._ver += self._random.randrange(1, 5)
        version = {"ver": self._ver, "as_of_us": self._as_of, "final": False, "superseded_by": None}
        self._messages.append({name: value for name, value in (window | version | difference).items() if name != "type"})

    def publish_after_a_history(self, window):
        """The window, and before it some of what evidence may have said earlier."""
        onset = window["onset_us"]
        opened = {"status": "open", "end_us": None, "ended_by": None}
        ended = {"status": "closed", "end_us": onset + self._random.randrange(1, 40 * DAY_US), "ended_by": "supervision"}
        gone = {"status": "retracted"}
        moved = {"id": f"{window['id']} moved", "onset_us": onset - 1}
        history = [opened, ended, gone, opened, opened | moved, ended | moved, gone | moved | {"superseded_by": window["id"]}]
        # Whatever came before, the moved one is taken back.
        for difference in history[self._random.choice([0, 1, 2, 3, 4, 5, 7]) :]:
            self.publish(window, **difference)
        self.publish(window)

    def messages(self):
        messages = self._messages + self._random.choices(self._messages, k=len(self._messages)) if self._messages else []
        self._random.shuffle(messages)
        return messages


def gap_rows(gaps, as_of):
    """Rows of the table for these gaps of replay: what reaches the frontier has no end, and may have begun elsewhere once."""
    for gap in gaps:
        row = {"service": gap["service"], "start_us": gap["start_us"], "as_of_us": as_of, "retracted": False}
        elsewhere = row | {"start_us": gap["start_us"] - 7, "end_us": None}
        yield row | {"ver": 5, "end_us": gap["end_us"] if gap["end_us"] < as_of else None}
        yield row | {"ver": 4, "end_us": None}
        yield elsewhere | {"ver": 3, "retracted": True}
        yield elsewhere | {"ver": 2}


def run(*arguments):
    """What the program prints."""
    out = io.StringIO()
    argv = mock.patch.object(sys, "argv", [str(SCRIPT), *map(str, arguments)])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        statement.main()
    return out.getvalue()


class Statement(unittest.TestCase):
    def setUp(self):
        self.directory = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.compared = 0

    def write(self, name, rows):
        path = self.directory / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    def agrees(self, case, as_of, messages, lines):
        """The statements of all months are the accounts that these lines of replay hold, field by field."""
        expected = of_type(lines, "account")
        catalogue = self.directory / "catalogue"
        catalogue.write_text(case.catalogue_with_every_since(expected))
        topic = self.write("windows", messages)
        gaps = self.write("gaps", gap_rows(of_type(lines, "gap"), as_of))
        options = ["--topic", topic, "--as-of", as_of, "--catalogue", catalogue, "--exclusions", case.evidence, "--json"]
        for month in sorted({line["month"] for line in expected}):
            of_month = {line["service"]: line for line in expected if line["month"] == month}
            with self.subTest(case=case.path.name, month=month, as_of=as_of):
                found = json.loads(run("--month", month, *options, "--gaps", gaps))["accounts"]
                self.assertEqual([line["service"] for line in found], sorted(of_month, key=lambda id: (of_month[id]["indicator"], id)))
                for line in found:
                    account = of_month[line["service"]]
                    shared = account.keys() - {"type"}
                    self.assertEqual({name: line[name] for name in shared}, {name: account[name] for name in shared})
                    self.compared += len(shared)
                for line in json.loads(run("--month", month, *options))["accounts"]:
                    self.says_no_more_than(line, of_month[line["service"]])

    def says_no_more_than(self, without_gaps, account):
        unsaid = {"unknown_us", "availability_low"}
        self.assertEqual({without_gaps[name] for name in unsaid}, {None})
        if without_gaps["verdict"] is None:
            self.assertNotEqual(account["verdict"], "breached")
            self.assertTrue(account["final"])
            unsaid |= {"verdict"}
        said = account.keys() - unsaid - {"type"}
        self.assertEqual({name: without_gaps[name] for name in said}, {name: account[name] for name in said})

    def test_every_case(self):
        for case in cases():
            topic = Topic(case.as_of, case.path.name)
            for window in of_type(case.expected, "window"):
                topic.publish_after_a_history(window)
            self.agrees(case, case.as_of, topic.messages(), case.expected)
        self.assertGreater(self.compared, 1_700)

    @unittest.skipUnless(VIGIE, "VIGIE does not name the program")
    def test_real_histories(self):
        for case in cases():
            text = case.evidence.read_text().splitlines(keepends=True)
            topic, published = Topic(case.as_of, case.path.name), {}
            for step in range(1, 9):
                part = self.directory / "part"
                part.write_text("".join(text[: len(text) * step // 8]))
                is_whole = step == 8
                lines = replay(case, part, case.as_of if is_whole else None)
                windows = {window["id"]: window for window in of_type(lines, "window")}
                for id in published.keys() - windows.keys():
                    topic.publish(published[id], status="retracted")
                for id, window in windows.items():
                    if published.get(id) != window:
                        topic.publish(window)
                published = windows
            self.agrees(case, case.as_of, topic.messages(), lines)

    @unittest.skipUnless(VIGIE, "VIGIE does not name the program")
    def test_months_become_final(self):
        final = 0
        for case in cases():
            for days in [1, 6, 7, 31, 38, 70]:
                as_of = case.as_of + days * DAY_US
                lines = replay(case, case.evidence, as_of)
                topic = Topic(as_of, case.path.name)
                for window in of_type(lines, "window"):
                    topic.publish_after_a_history(window)
                self.agrees(case, as_of, topic.messages(), lines)
                final += sum(account["final"] for account in of_type(lines, "account"))
        self.assertGreater(final, 100)

    def test_what_is_younger_than_the_frontier_waits(self):
        case = next(case for case in cases() if case.path.name == "01-plain")
        topic = Topic(case.as_of, 0)
        for window in of_type(case.expected, "window"):
            topic.publish(window)
            topic.publish(window, status="retracted", as_of_us=case.as_of + 1)
        self.agrees(case, case.as_of, topic.messages(), case.expected)

    def test_the_table_is_for_people(self):
        case = next(case for case in cases() if case.path.name == "11-maintenance")
        topic = Topic(case.as_of, 0)
        for window in of_type(case.expected, "window"):
            topic.publish(window)
        options = ["--topic", self.write("windows", topic.messages()), "--catalogue", case.catalogue, "--exclusions", case.evidence]
        heading, line = run("--month", "1970-01", "--as-of", case.as_of, *options).splitlines()
        self.assertRegex(heading, "^service +indicator +down +excluded +unknown ")
        self.assertRegex(line, r"^svc .* (breached|undecided) \(provisional\)$")


class Exclusions(unittest.TestCase):
    CATALOGUE = statement.Catalogue('[[service]]\nid = "s"\nindicator = "i"\nneeds = "t"\n')

    def length(self, *records):
        """What one exclusion takes off, which these records tell of; each names what is not as in the first of all."""
        plain = {"v": 1, "type": "exclusion", "id": "M", "kind": "maintenance", "services": ["s"], "state": "approved"}
        numbered = [plain | {"start": 100, "end": 200} | {"rev": rev, "appended_at": 99} | record for rev, record in enumerate(records)]
        parts = [statement.excluded_parts(of_one, "s", ["maintenance"]) for of_one in statement.revisions(numbered, self.CATALOGUE)]
        return statement.covered(0, 1_000, *parts)

    def test_maintenance_counts_as_far_as_it_was_on_record_before_it_began(self):
        self.assertEqual(self.length({}), 100)
        self.assertEqual(self.length({"appended_at": 100}), 0)
        self.assertEqual(self.length({"appended_at": 100, "override_by": "director"}), 100)
        self.assertEqual(self.length({"appended_at": 100, "override_by": " "}), 0)
        self.assertEqual(self.length({}, {"end": 500, "appended_at": 150}), 100)
        self.assertEqual(self.length({}, {"start": 150, "end": 160, "appended_at": 155}), 10)
        self.assertEqual(self.length({"state": "proposed"}, {"appended_at": 150}), 0)
        self.assertEqual(self.length({}, {"state": "withdrawn"}), 0)

    def test_the_highest_revision_counts_and_of_equal_ones_the_first(self):
        self.assertEqual(self.length({"rev": 2, "end": 110}, {"rev": 1}), 10)
        self.assertEqual(self.length({"rev": 1, "end": 110}, {"rev": 1, "appended_at": 98}), 100)

    def test_what_the_region_refuses_was_never_there(self):
        for refused in [{"v": 2}, {"end": 100}, {"services": ["unknown"]}, {"kind": "weather"}, {"state": None}]:
            self.assertEqual(self.length({}, refused), 100, refused)


class Finality(unittest.TestCase):
    HOUR = 3_600_000_000
    SETTLED = 48 * HOUR + 96 * HOUR
    CATALOGUE = """
        late_horizon = "96h"
        stable_up = "1h"
        [[indicator]]
        id = "i"
        objective = 99
        [[service]]
        id = "s"
        indicator = "i"
        needs = "t"
        since = 2026-11-01T00:00:00+01:00
        until = 2026-12-11T00:00:00+01:00
    """

    def is_final(self, as_of, **window):
        catalogue = statement.Catalogue(self.CATALOGUE)
        self.month_end = catalogue.month("2026-11")[1]
        shape = {"service": "s", "onset_us": self.month_end - self.HOUR, "kind": "outage", "final": False}
        windows = {"s": [shape | window] if window else []}
        [account] = statement.statement(statement.Facts(catalogue, catalogue.services, as_of, windows, None, []), "2026-11")
        return account["final"]

    def becomes_final(self, instant, **window):
        self.assertFalse(self.is_final(instant + self.SETTLED - 1, **window))
        self.assertTrue(self.is_final(instant + self.SETTLED, **window))

    def test_a_month_is_final_when_nothing_can_change_it(self):
        self.is_final(2**60)
        end, until = self.month_end, self.month_end + 10 * 24 * self.HOUR
        self.becomes_final(end)
        self.becomes_final(end, end_us=end - 1, kind="claim")
        self.becomes_final(end + 4 * self.HOUR, end_us=end + 3 * self.HOUR)
        self.becomes_final(until, end_us=until - 1)
        self.becomes_final(end, end_us=end + 3 * self.HOUR, kind="claim")
        self.becomes_final(end, end_us=end + 3 * self.HOUR, kind="mixed", final=True)
        self.assertFalse(self.is_final(end + 2 * self.SETTLED, end_us=None))


class Schema(unittest.TestCase):
    def test_a_message_has_the_columns_of_the_table(self):
        create = WINDOWS_SQL.read_text().split("CREATE TABLE IF NOT EXISTS windows\n")[1].split("\n)\n")[0]
        columns = set(re.findall(r"^ +`(\w+)` (?!.* ALIAS )", create, re.M)) - {"log_group"}
        schema = json.loads(SCHEMA.read_text())
        self.assertEqual(schema["properties"].keys(), columns)
        self.assertEqual(set(schema["required"]), columns)
        for example in schema["examples"]:
            self.assertEqual(list(example), list(schema["properties"]))


def replay(case, evidence, until):
    options = [] if until is None else ["--until", str(until)]
    command = [VIGIE, "replay", "--catalogue", case.catalogue, "--evidence", evidence, *options]
    return parse(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


if __name__ == "__main__":
    unittest.main()
