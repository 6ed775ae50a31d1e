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
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "deploy/sla/statement.py"
SCHEMA = ROOT / "aggregator/schema/windows.v1.schema.json"
WINDOWS_SQL = ROOT / "aggregator/schema/001_windows.sql"
VIGIE = os.environ.get("VIGIE")
DAY_US = 86_400_000_000

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
        toml = tomllib.loads(self.catalogue.read_text())
        self.settle = statement.duration_us(toml.get("settle", "3s"))
        self.unwritten = {block["id"] for block in toml["service"] if "since" not in block}
        note = path / "NOTE"
        until = re.search(r"run with --until (\d+)", note.read_text() if note.exists() else "")
        records = parse(self.evidence.read_text())
        self.as_of = int(until[1]) if until else self.frontier(records)

    def frontier(self, records):
        appended = (record.get("appended_at", record.get("t1")) for record in records)
        return max(us for us in appended if us is not None) - self.settle


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
    with mock.patch.object(sys, "argv", [str(SCRIPT), *map(str, arguments)]), contextlib.redirect_stdout(out):
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
        expected = [line for line in of_type(lines, "account") if line["service"] not in case.unwritten]
        topic = self.write("windows", messages)
        gaps = self.write("gaps", gap_rows(of_type(lines, "gap"), as_of))
        options = ["--topic", topic, "--as-of", as_of, "--catalogue", case.catalogue, "--exclusions", case.evidence, "--json"]
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
        self.assertGreater(self.compared, 1_000)

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

    def test_the_table_is_for_people(self):
        case = next(case for case in cases() if case.path.name == "11-maintenance")
        topic = self.write("windows", of_type(case.expected, "window") and Topic(case.as_of, 0).messages())
        text = run("--month", "1970-01", "--topic", topic, "--as-of", case.as_of, "--catalogue", case.catalogue, "--exclusions", case.evidence)
        self.assertIn("undecided (provisional)", text)

    def test_a_young_window_belies_an_old_frontier(self):
        case = next(case for case in cases() if case.path.name == "01-plain")
        topic = Topic(case.as_of, 0)
        topic.publish(of_type(case.expected, "window")[0])
        options = ["--topic", self.write("windows", topic.messages()), "--catalogue", case.catalogue, "--exclusions", case.evidence]
        with self.assertRaisesRegex(SystemExit, "younger than --as-of"):
            run("--month", "1970-01", "--as-of", case.as_of - 1, *options)


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
