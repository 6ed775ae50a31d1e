#!/usr/bin/env python3
"""What a region on Kafka and ClickHouse takes: partitions, brokers, memory, disk. Prints the tables of capacity.md.

    deploy/capacity.py                                                         the three regions of the page
    deploy/capacity.py --targets 2000 --vantages 3 --period 10 --groups 1      yours
    deploy/capacity.py --check                                                 whether the page still has what this prints

`MEASURED` is what was measured, and how is in capacity.md; `ASSUMED` is what you may want to change. Nothing else is a number.
"""

import argparse
import sys
from pathlib import Path

# Bytes, of https checks that succeed, whose records have 409 bytes each.
MEASURED = {
    # On a broker's disk, compressed by the producer, by the number of records in a batch.
    "kafka_record": [(2.5, 180), (3.0, 157), (5.1, 113), (10, 81), (50, 51), (101, 48), (923, 46)],
    # A probe hands over what has gathered: one record, and what comes in so many seconds.
    "gather_seconds": 0.05,
    "archive_sample": 42,
    "clickhouse_sample": 19,
    # Of a (target, vantage) and hour with 360 samples.
    "latency_by_hour_row": 945,
    "account_row": 14,
    "window_row": 38,
    "window_versions": 2.9,
    "window_message": 136,
    # 96 h at 10 s of a (target, vantage): README, Figures.
    "state": 102_000,
    "state_latency": 170_000,
    "spool_sample": 400,
    "probe": 15_000_000,
    "probe_target": 2_300,
}

ASSUMED = {
    "brokers": 3,
    "replication": 3,
    "deployments": 2,
    # Days in the log, and the segment that retention leaves until all of it is old enough.
    "log_days": 14,
    "segment": 1 << 30,
    "windows_days": 90,
    "archive_days": 400,
    # Whole weeks of partitions are dropped.
    "sample_days": 90 + 7,
    "clickhouse_replicas": 2,
    # What two deployments wrote twice, and merges have not folded together yet.
    "unmerged": 1.3,
    "snapshot_dirty": 2,
    "services_per_target": 1,
    "windows_per_service_and_year": 12,
    # So much one probe measures; more targets in a zone are shared over more vantages.
    "probe_rate": 1_000,
    "spool_days": 3,
}

DAY, HOURS_OF_A_YEAR, DAYS_OF_A_YEAR = 86_400, 8_766, 365.25

REGIONS = [(300, 3, 10, 1), (10_000, 3, 10, 1), (100_000, 5, 10, 20)]


def kafka_record(batch):
    """Between two batches that were measured, and before the first: along a line in 1 / batch, for a batch costs something itself."""
    points = MEASURED["kafka_record"]
    for (small, most), (large, least) in zip(points, points[1:]):
        if batch <= large:
            return least + (most - least) * (1 / batch - 1 / large) / (1 / small - 1 / large)
    return points[-1][1]


def region(targets, vantages, period, groups):
    m, a = MEASURED, ASSUMED
    pairs = targets * vantages
    rate = pairs / period
    # Every target's samples are one group's, but for the few of anchors.
    probes_per_zone = max(1, -(-targets // int(a["probe_rate"] * period)))
    groups_per_probe = max(1, -(-groups // probes_per_zone))
    probe_rate = targets / period / probes_per_zone
    batch = 1 + m["gather_seconds"] * probe_rate / groups_per_probe
    record = kafka_record(batch)
    services = targets * a["services_per_target"]
    windows = services * a["windows_per_service_and_year"] * m["window_versions"]
    return {
        "targets, vantages, period": f"{number(targets)} · {vantages} · {period} s",
        "samples/s": number(rate),
        "probes in each zone": number(probes_per_zone),
        "records in a batch": number(batch),
        "bytes of a record in the log": number(record),
        "partitions of evidence and of snapshots": number(groups),
        "brokers": number(a["brokers"]),
        "into the brokers, copies included": size(rate * record * a["replication"]) + "/s",
        "out of them, to folds and archives": size(rate * record * a["deployments"] * 2) + "/s",
        "evidence, all copies": size((rate * record * a["log_days"] * DAY + groups * a["segment"]) * a["replication"]),
        "windows, all copies": size(windows * m["window_message"] * a["deployments"] * a["windows_days"] / DAYS_OF_A_YEAR * a["replication"]),
        "snapshots, all copies": size(pairs * m["state"] * a["deployments"] * a["snapshot_dirty"] * a["replication"]),
        "state of a deployment": size(pairs * m["state"]),
        "with a latency objective on every target": size(pairs * m["state_latency"]),
        "state of a group": size(pairs * m["state"] / groups),
        "memory of a probe": size(m["probe"] + m["probe_target"] * targets / probes_per_zone),
        "spool of a probe": size(probe_rate * m["spool_sample"] * a["spool_days"] * DAY),
        "archive of a deployment, a year": size(rate * m["archive_sample"] * DAYS_OF_A_YEAR * DAY),
        "archive of a deployment, kept": size(rate * m["archive_sample"] * a["archive_days"] * DAY),
        "samples, a replica": size(rate * m["clickhouse_sample"] * a["unmerged"] * a["sample_days"] * DAY),
        "latency_by_hour, a replica, more every year": size(pairs * HOURS_OF_A_YEAR * m["latency_by_hour_row"]),
        "accounts and latency, a replica, more every year": size((services + targets) * HOURS_OF_A_YEAR * m["account_row"]),
        "windows, a replica, more every year": size(windows * m["window_row"]),
    }


PARTS = {
    "Load": ("targets, vantages, period", "samples/s", "probes in each zone", "records in a batch", "bytes of a record in the log"),
    "Kafka": (
        "partitions of evidence and of snapshots",
        "brokers",
        "into the brokers, copies included",
        "out of them, to folds and archives",
        "evidence, all copies",
        "windows, all copies",
        "snapshots, all copies",
    ),
    "Memory": ("state of a deployment", "with a latency objective on every target", "state of a group", "memory of a probe"),
    "Disk": (
        "spool of a probe",
        "archive of a deployment, a year",
        "archive of a deployment, kept",
        "samples, a replica",
        "latency_by_hour, a replica, more every year",
        "accounts and latency, a replica, more every year",
        "windows, a replica, more every year",
    ),
}


def number(value):
    return f"{value:,.0f}".replace(",", " ") if value >= 10 or value == int(value) else f"{value:.1f}"


def size(value):
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 999.5 or unit == "TB":
            return f"{value:.0f} {unit}" if value >= 9.95 else f"{value:.1f} {unit}"
        value /= 1_000


def tables(regions):
    columns = [region(*each) for each in regions]
    blocks = []
    for part, rows in PARTS.items():
        lines = [f"| {part} |" + " |" * len(columns), "|---|" + "--:|" * len(columns)]
        lines += [f"| {row} | " + " | ".join(column[row] for column in columns) + " |" for row in rows]
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def main():
    parser = argparse.ArgumentParser(description="What a region on Kafka and ClickHouse takes.")
    parser.add_argument("--targets", type=int)
    parser.add_argument("--vantages", type=int, default=3)
    parser.add_argument("--period", type=int, default=10, help="seconds")
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--check", action="store_true", help="whether capacity.md has these tables")
    args = parser.parse_args()
    regions = REGIONS if args.targets is None else [(args.targets, args.vantages, args.period, args.groups)]
    text = tables(regions)
    if args.check:
        page = Path(__file__).with_name("capacity.md").read_text()
        sys.exit(None if text in page else "capacity.md has other tables than capacity.py prints")
    print(text, end="")


if __name__ == "__main__":
    main()
