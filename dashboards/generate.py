#!/usr/bin/env python3
"""The Grafana dashboards of a region: the one source of all that is in `en/` and `fr/`.

    generate.py                        writes them
    generate.py --check                says which differ from what is written here, with status 1
    generate.py --page URL --out DIR   the same with the address of your status page, elsewhere

Every text stands here in English and French, side by side; queries, colours and thresholds are shared. Column names of queries are plain
English words, and get their headings from COLUMNS. Nothing is told apart by colour alone: each state has a word and a sign.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
LANGUAGES = "en", "fr"


class Text(NamedTuple):
    """What people read."""

    en: str
    fr: str


def said(tree, language):
    """The tree with its texts in one language."""
    if isinstance(tree, Text):
        return getattr(tree, language)
    if isinstance(tree, dict):
        return {key: said(value, language) for key, value in tree.items()}
    if isinstance(tree, list):
        return [said(value, language) for value in tree]
    return tree


# Colours of Okabe and Ito, which all kinds of colour vision tell apart; a test holds every dashboard against this list.

UP = "#0072B2"  # blue
UNKNOWN = "#999999"  # grey
DOWN = "#D55E00"  # vermilion
WARNING = "#E69F00"  # orange
EXCLUDED = "#56B4E9"  # sky
CLAIMED = "#CC79A7"  # purple
LIMIT = "#666666"

RESULT_COLOURS = {"ok": UP, "void": UNKNOWN, "fail": DOWN}
SHARE_COLOURS = {"p50": UP, "p95": WARNING, "p99": DOWN, "objective": LIMIT, "objectif": LIMIT}
PHASE_COLOURS = {"resolve": CLAIMED, "connect": UP, "tls": EXCLUDED, "processing": WARNING, "transfer": DOWN, "rtt": UP, "request": UP}
STATUS_COLOURS = {"open": DOWN, "restoring": WARNING, "closed": UP, "retracted": CLAIMED}

STATE_WORDS = {
    0: (UP, Text("▲ up", "▲ disponible")),
    1: (UNKNOWN, Text("? unknown", "? inconnu")),
    2: (DOWN, Text("▼ DOWN", "▼ INDISPONIBLE")),
}
RESULT_WORDS = {
    0: (UP, Text("▲ ok", "▲ ok")),
    1: (UNKNOWN, Text("? no evidence", "? pas de preuve")),
    2: (DOWN, Text("▼ fail", "▼ échec")),
}
CAUSE_WORDS = {
    "seen": (DOWN, Text("▼ seen failing", "▼ vu en échec")),
    "not_seen_again": (DOWN, Text("▼ not seen up again", "▼ pas revu en marche")),
    "gated": (UNKNOWN, Text("? its vantages are cut off", "? ses points de vue sont coupés")),
    "silent": (UNKNOWN, Text("? its vantages are silent", "? ses points de vue se taisent")),
    "not_measured": (UNKNOWN, Text("? not measured", "? non mesuré")),
    "stale": (UNKNOWN, Text("? supervision is stale", "? supervision périmée")),
}
VERDICT_WORDS = {
    "compliant": (UP, Text("✓ compliant", "✓ tenu")),
    "undecided": (UNKNOWN, Text("? undecided", "? indécis")),
    "breached": (DOWN, Text("✗ breached", "✗ manqué")),
}
STATUS_WORDS = {
    "open": (DOWN, Text("▼ open", "▼ ouverte")),
    "restoring": (WARNING, Text("△ restoring", "△ en rétablissement")),
    "closed": (UP, Text("■ closed", "■ close")),
}
FLAG_WORDS = {
    0: (UP, Text("✓ no", "✓ non")),
    1: (DOWN, Text("✗ YES", "✗ OUI")),
}
FINAL_WORDS = {
    "true": (None, Text("final", "définitif")),
    "false": (None, Text("provisional", "provisoire")),
}
CONTRACTUAL_WORDS = {
    "true": (None, Text("yes", "oui")),
    "false": (None, Text("no", "non")),
}

NONE_OPEN = Text("no window is open", "aucune fenêtre ouverte")
NONE = Text("none", "aucun")

# What a column of a query is called, and how it is shown.

COLUMNS = {
    "service": (Text("service", "service"), {}),
    "indicator": (Text("indicator", "indicateur"), {}),
    "scope": (Text("zone", "zone"), {}),
    "cause": (Text("why", "pourquoi"), {"words": CAUSE_WORDS}),
    "id": (Text("window", "fenêtre"), {"page": "/#window-${__value.raw}"}),
    "onset": (Text("since", "depuis"), {"unit": "dateTimeAsIso"}),
    "end": (Text("until", "jusqu’à"), {"unit": "dateTimeAsIso"}),
    "length": (Text("length", "durée"), {"unit": "dtdurations"}),
    "status": (Text("status", "état"), {"words": STATUS_WORDS}),
    "kind": (Text("kind", "nature"), {}),
    "observed": (Text("seen down", "vu indisponible"), {"unit": "dtdurations"}),
    "inferred": (Text("not seen up again", "pas revu en marche"), {"unit": "dtdurations"}),
    "unknown_inside": (Text("unknown inside", "inconnu dedans"), {"unit": "dtdurations"}),
    "contested": (Text("by claims alone", "par réclamation seule"), {"unit": "dtdurations"}),
    "claims": (Text("claims", "réclamations"), {}),
    "final": (Text("standing", "statut"), {"words": FINAL_WORDS}),
    "contractual": (Text("contractual", "contractuel"), {"words": CONTRACTUAL_WORDS}),
    "objective": (Text("objective", "objectif"), {"unit": "percent", "decimals": 4}),
    "down": (Text("down", "indisponible"), {"unit": "dtdurations"}),
    "gross": (Text("before exclusions", "avant exclusions"), {"unit": "dtdurations"}),
    "excluded": (Text("excluded", "exclu"), {"unit": "dtdurations"}),
    "unknown": (Text("unknown", "inconnu"), {"unit": "dtdurations"}),
    "budget": (Text("budget", "budget"), {"unit": "dtdurations"}),
    "remaining": (Text("left of budget", "reste du budget"), {"unit": "dtdurations", "steps": [(None, DOWN), (0, UP)]}),
    "availability": (Text("availability", "disponibilité"), {"unit": "percent", "decimals": 6}),
    "low": (Text("at worst", "au pire"), {"unit": "percent", "decimals": 6}),
    "to_date": (Text("to date", "à ce jour"), {"unit": "percent", "decimals": 6}),
    "verdict": (Text("verdict", "verdict"), {"words": VERDICT_WORDS}),
    "as_of": (Text("as of", "à la date du"), {"unit": "dateTimeAsIso"}),
    "name": (Text("name", "nom"), {}),
    "services": (Text("services", "services"), {}),
    "state": (Text("state", "état"), {}),
    "announced": (Text("announced", "annoncé"), {"unit": "dateTimeAsIso"}),
    "recorded": (Text("recorded", "enregistré"), {"unit": "dateTimeAsIso"}),
    "approved_by": (Text("approved by", "approuvé par"), {}),
    "override_by": (Text("late by decision of", "tardif, décidé par"), {}),
    "reason": (Text("reason", "motif"), {}),
    "ticket": (Text("ticket", "ticket"), {}),
    "opened": (Text("notified", "notifié"), {"unit": "dateTimeAsIso"}),
    "resolved": (Text("confirmed restored", "rétablissement confirmé"), {"unit": "dateTimeAsIso"}),
    "advice": (Text("advice", "avis"), {}),
    "actor": (Text("by", "par"), {}),
    "at": (Text("at", "à"), {"unit": "dateTimeAsIso"}),
    "target": (Text("target", "cible"), {}),
    "vantage": (Text("vantage", "point de vue"), {}),
    "probe": (Text("vantage", "point de vue"), {}),
    "outcome": (Text("the probe said", "la sonde a dit"), {}),
    "effective": (Text("taken as", "retenu comme"), {}),
    "attempts": (Text("attempts", "tentatives"), {}),
    "took": (Text("took", "a duré"), {"unit": "s"}),
    "phases": (Text("phases, µs", "phases, µs"), {}),
    "samples": (Text("samples", "mesures"), {}),
    "over": (Text("too slow", "trop lentes"), {}),
    "share": (Text("share too slow", "part trop lente"), {"unit": "percentunit", "decimals": 3}),
    "slowest": (Text("slowest", "la plus lente"), {"unit": "s"}),
    "group": (Text("group", "groupe"), {}),
    "detail": (Text("what is wrong", "ce qui ne va pas"), {}),
    "table": (Text("table", "table"), {}),
    "rows": (Text("rows", "lignes"), {}),
    "bytes": (Text("on disk", "sur disque"), {"unit": "bytes"}),
    "version": (Text("version", "version"), {}),
    "superseded_by": (Text("replaced by", "remplacée par"), {"page": "/#window-${__value.raw}"}),
    "instance": (Text("member", "membre"), {}),
    "untrusted": (Text("untrusted", "indigne de foi"), {"words": FLAG_WORDS}),
}

# Thresholds: the first colour holds from minus infinity on.

EVEN_BURN = [(None, UP), (1, WARNING), (14.4, DOWN)]  # 1 just lasts the month, 14.4 takes 2 percent of it in an hour
SHARE_OF_BUDGET = [(None, DOWN), (0, WARNING), (0.25, UP)]  # what is left; tickets begin at a quarter
CONTRACT_LATENCY = [(None, UP), (0.15, DOWN)]  # IC-INFRA-SNC-10.3: 150 ms
OVER_OBJECTIVE = [(None, UP), (0.01, WARNING), (0.1, DOWN)]
ANY_IS_BAD = [(None, UP), (1, DOWN)]
ANY_IS_UNKNOWN = [(None, UP), (1, UNKNOWN)]
CLOCK = [(None, UP), (0.1, WARNING), (0.3, DOWN)]  # from 0.3 s on a clock is wrong
LAG = [(None, UP), (10, WARNING), (13, DOWN)]  # settle (3 s) and 10 s: all is stale then
MARGIN = [(None, DOWN), (0, WARNING), (1, UP)]
COVERAGE = [(None, DOWN), (0.5, WARNING), (0.999, UP)]
ADMITTED = [(None, DOWN), (0.9, WARNING), (0.999, UP)]
SPOOL = [(None, UP), (0.5, WARNING), (0.8, DOWN)]
ENDS = [(None, DOWN), (7 * 86_400, WARNING), (14 * 86_400, UP)]  # the tickets come a fortnight before
SILENCE = [(None, UP), (60, WARNING), (300, DOWN)]
SNAPSHOT = [(None, UP), (600, WARNING), (3600, DOWN)]
SCRAPE = [(None, UP), (1, WARNING), (4, DOWN)]  # the timeout of prometheus.yml is 4 s
PLAIN = [(None, UP)]

# Queries.

PROMETHEUS = {"type": "prometheus", "uid": "${prometheus}"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "${clickhouse}"}
# What a service is, in the words of the variables at the head of a dashboard.
CHOSEN = 'scope=~"$scope", indicator=~"$indicator", service=~"$service"'
CHOSEN_SQL = "service IN (${service:sqlstring})"
EXCLUDES_CHOSEN_SQL = "hasAny(x.services, [${service:sqlstring}])"


def trusted(metric, by="service", chosen=CHOSEN):
    """A state as members know it that can be trusted, which export a coverage too; else what the others say, which is unknown."""
    known = f"{metric}{{{chosen}}}"
    return f"(max by ({by}) ({known} and on (service, instance, job) vigie_coverage_ratio) or max by ({by}) ({known}))"


STATE = trusted("vigie_service_state")


def prom(expr, legend="", ref="A", table=False, heatmap=False, instant=None):
    """A query of Prometheus: its series over time, or (table, instant) what they are now."""
    instant = table if instant is None else instant
    return {
        "datasource": PROMETHEUS,
        "refId": ref,
        "expr": expr,
        "legendFormat": legend,
        "range": not instant,
        "instant": instant,
        "format": "table" if table else "heatmap" if heatmap else "time_series",
        "editorMode": "code",
    }


def sql(query, ref="A", series=False):
    """A query of ClickHouse: a table, or series with a column `time`."""
    return {
        "datasource": CLICKHOUSE,
        "refId": ref,
        "editorType": "sql",
        "queryType": "timeseries" if series else "table",
        "format": 0 if series else 1,
        "rawSql": "\n".join(line.strip() for line in query.strip().splitlines()),
    }


# Between the ends of the time range, in microseconds.
FROM_US, TO_US = "${__from} * 1000", "${__to} * 1000"
# What one asks first stands first: a phone shows three columns and scrolls for the rest.
WINDOW_COLUMNS = """
    service, status, (ifNull(end_us, as_of_us) - onset_us) / 1e6 AS length, onset_at AS onset, end_at AS `end`,
    observed_down_us / 1e6 AS observed, inferred_down_us / 1e6 AS inferred, unknown_inside_us / 1e6 AS unknown_inside,
    contested_us / 1e6 AS contested, arrayStringConcat(claims, ', ') AS claims, kind, indicator, toString(id) AS id
"""
WINDOW_HEADINGS = [
    "service", "status", "length", "onset", "end", "observed", "inferred", "unknown_inside", "contested", "claims", "kind", "indicator", "id",
]
# The days of a month and one more on either side, because months are cut at the region's midnights.
MONTH_US = (
    "toUnixTimestamp(toDate('${month}-01')) * 1000000 - 86400000000",
    "toUnixTimestamp(addMonths(toDate('${month}-01'), 1)) * 1000000 + 86400000000",
)


# Panels.


def mapping(words):
    """Values, the words that they stand for, and the colours that go with the words."""
    options = {
        str(value): {"text": text, "index": at} | ({"color": colour} if colour else {})
        for at, (value, (colour, text)) in enumerate(words.items())
    }
    return [{"type": "value", "options": options}]


def thresholds(steps):
    return {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}


def column(name, links):
    """How a column of a table is shown."""
    heading, how = COLUMNS[name]
    properties = [{"id": "displayName", "value": heading}]
    if "unit" in how:
        properties.append({"id": "unit", "value": how["unit"]})
    if "decimals" in how:
        properties.append({"id": "decimals", "value": how["decimals"]})
    if "words" in how:
        properties.append({"id": "mappings", "value": mapping(how["words"])})
        if any(colour for colour, _ in how["words"].values()):
            properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if "steps" in how:
        properties.append({"id": "thresholds", "value": thresholds(how["steps"])})
        properties.append({"id": "custom.cellOptions", "value": {"type": "color-text"}})
    if "page" in how:
        properties.append({"id": "links", "value": [page_link(how["page"])]})
    if name in links:
        properties.append({"id": "links", "value": links[name]})
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def page_link(path):
    title = Text("On the status page", "Sur la page d’état")
    return {"title": title, "url": "${page}" + path, "targetBlank": True}


def to_service(value):
    title = Text("This service", "Ce service")
    return {"title": title, "url": Text(*(f"/d/vigie-service-{language}?var-service={value}" for language in LANGUAGES))}


SERVICE_LINKS = {"service": [to_service("${__value.raw}")]}


class Panel(NamedTuple):
    """A panel that does not know yet where it stands."""

    width: int
    height: int
    body: dict


def panel(kind, title, targets, size, unit="short", steps=PLAIN, words=None, about=None, options=None, overrides=(), links=(), **more):
    width, height = size
    defaults = {"unit": unit, "color": {"mode": more.pop("color", "thresholds")}, "thresholds": thresholds(steps)}
    defaults["noValue"] = more.pop("no_value", NONE)
    if words:
        defaults["mappings"] = mapping(words)
    if links:
        defaults["links"] = list(links)
    if "named" in more:
        defaults["displayName"] = more.pop("named")
    for name in ("custom", "min", "max", "decimals"):
        if name in more:
            defaults[name] = more.pop(name)
    body = {
        "type": kind,
        "title": title,
        "datasource": targets[0]["datasource"],
        "targets": list(targets),
        "fieldConfig": {"defaults": defaults, "overrides": list(overrides)},
        "options": options or {},
        **more,
    }
    if about:
        body["description"] = about
    return Panel(width, height, body)


def reduced(**more):
    return {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}} | more


def stat(title, targets, size, name=False, **more):
    options = reduced(
        colorMode=more.pop("paint", "background_solid"),
        graphMode="none",
        justifyMode="center",
        orientation="auto",
        textMode="value_and_name" if name else "value",
        wideLayout=True,
    )
    return panel("stat", title, targets, size, options=options, **more)


def bars(title, targets, size, **more):
    options = reduced(displayMode="basic", orientation="horizontal", valueMode="text", showUnfilled=True, minVizWidth=8, minVizHeight=16)
    return panel("bargauge", title, targets, size, options=options, **more)


LEGEND = {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []}


def coloured(colours):
    """Colours of series by the end of their names, lines that are a limit dashed. Others have a colour by their name: legend and tooltip tell."""
    overrides = []
    for name, colour in colours.items():
        properties = [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}]
        if colour == LIMIT:
            properties.append({"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [10, 10]}})
        overrides.append({"matcher": {"id": "byRegexp", "options": f"/(^|\\W){name}$/"}, "properties": properties})
    return overrides


def lines(title, targets, size, log=False, stacked=False, style="line", limit=False, colours=None, **more):
    custom = {
        "drawStyle": style,
        "lineWidth": 1 if stacked else 2,
        "fillOpacity": 60 if stacked or style == "bars" else 0,
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if limit else "off"},
        "scaleDistribution": {"type": "log", "log": 10} if log else {"type": "linear"},
    }
    options = {"legend": LEGEND, "tooltip": {"mode": "multi", "sort": "desc"}}
    more["overrides"] = coloured(colours or {})
    return panel("timeseries", title, targets, size, options=options, custom=custom, color="palette-classic-by-name", **more)


def timeline(title, targets, size, **more):
    options = {
        "mergeValues": True,
        "showValue": "auto",
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": LEGEND,
        "tooltip": {"mode": "single", "sort": "none"},
    }
    return panel("state-timeline", title, targets, size, options=options, custom={"fillOpacity": 85, "lineWidth": 1}, **more)


def heatmap(title, targets, size, **more):
    options = {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Cividis", "steps": 32, "exponent": 0.5, "fill": UP, "reverse": False},
        "cellGap": 1,
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "yHistogram": False, "showColorScale": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
        "exemplars": {"color": CLAIMED},
    }
    return panel("heatmap", title, targets, size, options=options, **more)


def table(title, targets, size, columns, sort=None, value=None, links=None, **more):
    """A table of these columns; of Prometheus they are labels, and the value under the name `value`."""
    overrides = [column(name, links if links is not None else SERVICE_LINKS) for name in columns]
    options = {"showHeader": True, "cellHeight": "sm"}
    if sort:
        options["sortBy"] = [{"displayName": COLUMNS[sort][0], "desc": True}]
    if targets[0]["datasource"] is PROMETHEUS:
        hidden = {"Time": True} | ({} if value in columns else {"Value": True})
        order = {"Value" if name == value else name: at for at, name in enumerate(columns)}
        organize = {"excludeByName": hidden, "includeByName": {}, "indexByName": order, "renameByName": {"Value": value} if value else {}}
        more["transformations"] = [{"id": "organize", "options": organize}]
    return panel("table", title, targets, size, options=options, overrides=overrides, custom={"align": "auto", "inspect": False}, **more)


def row(title):
    return Panel(24, 1, {"type": "row", "title": title, "collapsed": False, "panels": []})


def placed(panels):
    """The panels from left to right and from top to bottom, as a page is read."""
    x = y = height = 0
    bodies = []
    for at, one in enumerate(panels):
        if x + one.width > 24:
            x, y, height = 0, y + height, 0
        bodies.append({"id": at + 1, "gridPos": {"x": x, "y": y, "w": one.width, "h": one.height}} | one.body)
        x, height = x + one.width, max(height, one.height)
    return bodies


# Variables.


def source(name, plugin, label):
    return {"type": "datasource", "name": name, "label": label, "query": plugin, "hide": 0, "refresh": 1, "regex": "", "multi": False, "includeAll": False}


def labels(name, query, label, many=True):
    """The values of a label of Prometheus."""
    wanted = {"query": query, "refId": name}
    everything = {"current": {"text": ["All"], "value": ["$__all"]}} if many else {}
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": PROMETHEUS,
        "query": wanted,
        "refresh": 2,
        "sort": 1,
        "hide": 0,
        "regex": "",
        "multi": many,
        "includeAll": many,
        **everything,
    }


def rows(name, query, label):
    """What ClickHouse answers in its first column."""
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": CLICKHOUSE,
        "query": query,
        "refresh": 2,
        "sort": 0,
        "hide": 0,
        "regex": "",
        "multi": False,
        "includeAll": False,
    }


SOURCES = [source("prometheus", "prometheus", "Prometheus"), source("clickhouse", CLICKHOUSE["type"], "ClickHouse")]
SCOPE = labels("scope", "label_values(vigie_service_state, scope)", Text("Zone", "Zone"))
INDICATOR = labels("indicator", 'label_values(vigie_service_state{scope=~"$scope"}, indicator)', Text("Indicator", "Indicateur"))
SERVICES_QUERY = 'label_values(vigie_service_state{scope=~"$scope", indicator=~"$indicator"}, service)'
SERVICES = labels("service", SERVICES_QUERY, Text("Service", "Service"))
SERVICE = labels("service", SERVICES_QUERY, Text("Service", "Service"), many=False)
TARGET = labels("target", 'label_values(vigie_service_target_info{service="$service"}, target)', Text("Target", "Cible"))
SLOW = labels("target", "label_values(vigie_latency_objective_seconds, target)", Text("Target", "Cible"))
VANTAGE = labels("vantage", "label_values(vigie_probe_targets, probe)", Text("Vantage", "Point de vue"))
MONTH = rows("month", "SELECT DISTINCT month FROM accounts_current ORDER BY month DESC", Text("Month", "Mois"))


def page(url):
    """Where the status page is."""
    return {"type": "constant", "name": "page", "label": Text("Status page", "Page d’état"), "query": url, "hide": 2, "skipUrlSync": True}


# Annotations: what happened, over every panel with a time axis.


def annotation(name, colour, query):
    target = sql(query, ref="Anno")
    return {"name": name, "datasource": CLICKHOUSE, "enable": True, "hide": False, "iconColor": colour, "target": target}


WINDOWS_ANNOTATED = annotation(
    Text("Outage windows", "Fenêtres d’indisponibilité"),
    DOWN,
    f"""
        SELECT onset_at AS time, ifNull(end_at, as_of_at) AS timeEnd, concat(service, ', ', toString(status)) AS text, toString(kind) AS tags
        FROM windows_current
        WHERE {CHOSEN_SQL} AND onset_us < {TO_US} AND ifNull(end_us, as_of_us) >= {FROM_US}
        ORDER BY onset_us DESC LIMIT 500
    """,
)
EXCLUSIONS_ANNOTATED = annotation(
    Text("Maintenance and other exclusions", "Maintenances et autres exclusions"),
    EXCLUDED,
    f"""
        SELECT fromUnixTimestamp64Micro(start_us, 'UTC') AS time, fromUnixTimestamp64Micro(end_us, 'UTC') AS timeEnd,
        concat(id, ', ', arrayStringConcat(services, ' '), ', ', ifNull(reason, '')) AS text, toString(kind) AS tags
        FROM exclusions_current AS x
        WHERE state = 'approved' AND {EXCLUDES_CHOSEN_SQL} AND start_us < {TO_US} AND end_us >= {FROM_US}
        ORDER BY start_us DESC LIMIT 500
    """,
)


# The dashboards.

WALL = [
    stat(Text("▼ down", "▼ indisponibles"), [prom(f"count({STATE} == 2) or vector(0)", instant=True)], (3, 4), steps=ANY_IS_BAD),
    stat(
        Text("? unknown", "? inconnus"),
        [prom(f"count({STATE} == 1) or vector(0)", instant=True)],
        (3, 4),
        steps=ANY_IS_UNKNOWN,
        about=Text("Nobody can say: neither up nor down.", "Nul ne peut le dire : ni disponible, ni indisponible."),
    ),
    stat(Text("▲ up", "▲ disponibles"), [prom(f"count({STATE} == 0) or vector(0)", instant=True)], (3, 4)),
    stat(
        Text("open windows", "fenêtres ouvertes"),
        [prom(f"count(group by (id) (vigie_window_open_info{{{CHOSEN}}})) or vector(0)", instant=True)],
        (3, 4),
        steps=ANY_IS_BAD,
    ),
    stat(
        Text("supervision is blind", "supervision aveugle"),
        [prom("min(max by (instance) (vigie_stale))", instant=True)],
        (3, 4),
        words=FLAG_WORDS,
        steps=ANY_IS_BAD,
        about=Text(
            "YES while no aggregator may be trusted: then every service is unknown, whatever it is.",
            "OUI tant qu’aucun agrégateur n’est digne de foi : tout service est alors inconnu, quoi qu’il en soit.",
        ),
    ),
    stat(
        Text("smallest quorum margin", "plus petite marge de quorum"),
        [prom(f"min(max by (service) (vigie_quorum_margin_vantages{{{CHOSEN}}}))", instant=True)],
        (3, 4),
        steps=MARGIN,
        about=Text(
            "How many more vantages may fall silent before some service can no longer be judged.",
            "Combien de points de vue peuvent encore se taire avant qu’un service ne puisse plus être jugé.",
        ),
    ),
    stat(
        Text("least budget left", "plus petit reste de budget"),
        [prom(f"1 - max(max by (service) (vigie_budget_used_ratio{{{CHOSEN}}}))", instant=True)],
        (3, 4),
        unit="percentunit",
        decimals=1,
        steps=SHARE_OF_BUDGET,
        about=Text("Of the month, and of the service that has least.", "Du mois, pour le service qui en a le moins."),
    ),
    stat(
        Text("claims that wait", "réclamations en attente"),
        [prom(f"sum(max by (service) (vigie_claim_candidates{{{CHOSEN}}}))", instant=True)],
        (3, 4),
        steps=[(None, UP), (1, CLAIMED)],
    ),
    row(Text("The region at a glance", "La région d’un coup d’œil")),
    stat(
        Text("Services", "Services"),
        [prom(f"sort_desc({STATE})", "{{service}}", instant=True)],
        (16, 9),
        name=True,
        words=STATE_WORDS,
        links=[to_service("${__field.labels.service}")],
    ),
    table(
        Text("Why they are not up", "Pourquoi ils ne sont pas disponibles"),
        [prom(f"group by (service, cause) (vigie_service_cause_info{{{CHOSEN}}})", table=True)],
        (8, 9),
        ["service", "cause"],
        no_value=Text("all are up", "tous sont disponibles"),
    ),
    table(
        Text("Open outage windows", "Fenêtres d’indisponibilité en cours"),
        [
            prom(
                f"time() - min by (service, indicator, scope, id) (vigie_window_open_info{{{CHOSEN}}}"
                " * on (service, instance, job) group_left () vigie_window_open_since_timestamp_seconds)",
                table=True,
            )
        ],
        (16, 7),
        ["service", "length", "scope", "indicator", "id"],
        value="length",
        sort="length",
        no_value=NONE_OPEN,
    ),
    bars(
        Text("Services by zone and state", "Services par zone et par état"),
        [prom('max by (scope, state) (vigie_scope_services{scope=~"$scope"})', "{{scope}} {{state}}", instant=True)],
        (8, 7),
        min=0,
        overrides=coloured({"up": UP, "unknown": UNKNOWN, "down": DOWN}),
    ),
    row(Text("Burn", "Consommation du budget")),
    lines(
        Text("Burn rate over an hour", "Vitesse de consommation sur une heure"),
        [prom(f'max by (service) (vigie_burn_rate_ratio{{{CHOSEN}, window="1h"}}) > 0.01', "{{service}}")],
        (12, 8),
        log=True,
        limit=True,
        steps=EVEN_BURN,
        about=Text(
            "1 just lasts the month; 14.4 over an hour takes 2 % of it. A 99.99 % objective burns at 10 000 while all is down.",
            "1 suffit tout juste pour le mois ; 14,4 pendant une heure en prend 2 %. À 99,99 %, une panne totale consomme à 10 000.",
        ),
        no_value=Text("nothing burns", "rien ne consomme"),
    ),
    bars(
        Text("Budget left of the month", "Reste du budget du mois"),
        [prom(f"bottomk(20, 1 - max by (service) (vigie_budget_used_ratio{{{CHOSEN}}}))", "{{service}}", instant=True)],
        (12, 8),
        unit="percentunit",
        decimals=1,
        min=0,
        max=1,
        steps=SHARE_OF_BUDGET,
    ),
    row(Text("Before now", "Avant")),
    timeline(Text("States", "États"), [prom(STATE, "{{service}}")], (24, 9), words=STATE_WORDS),
    table(
        Text("Windows of this time", "Fenêtres de cette période"),
        [
            sql(f"""
                SELECT {WINDOW_COLUMNS} FROM windows_current
                WHERE {CHOSEN_SQL} AND onset_us < {TO_US} AND ifNull(end_us, as_of_us) >= {FROM_US}
                ORDER BY onset_us DESC LIMIT 100
            """)
        ],
        (24, 8),
        WINDOW_HEADINGS,
    ),
]

ONE = 'service="$service"'
OF_TARGET = 'instance=~"$target"'
OF_TARGET_SQL = "target IN (${target:sqlstring})"
PHASES = "__name__=~\"probe_(http|icmp|dns)_duration_seconds|vigie_probe_(phase|network)_duration_seconds\""
LATENCY_BUCKETS = "sum by (le) (rate(vigie_probe_latency_seconds_bucket{" + OF_TARGET + "}[$__rate_interval]))"

SERVICE_PANELS = [
    stat(Text("state", "état"), [prom(trusted("vigie_service_state", chosen=ONE), instant=True)], (4, 4), words=STATE_WORDS),
    stat(
        Text("since", "depuis"),
        [prom(f"1000 * max(vigie_service_state_since_timestamp_seconds{{{ONE}}})", instant=True)],
        (4, 4),
        unit="dateTimeFromNow",
        paint="none",
    ),
    stat(
        Text("left of the budget", "reste du budget"),
        [prom(f"max(vigie_budget_remaining_seconds{{{ONE}}} and on (service, month) vigie_budget_used_ratio)", instant=True)],
        (4, 4),
        unit="dtdurations",
        steps=[(None, DOWN), (0, UP)],
    ),
    stat(
        Text("down this month", "indisponible ce mois"),
        [
            prom(f"max(vigie_down_observed_seconds{{{ONE}}})", Text("seen", "vu"), instant=True),
            prom(f"max(vigie_down_inferred_seconds{{{ONE}}})", Text("not seen up again", "pas revu en marche"), ref="B", instant=True),
        ],
        (4, 4),
        name=True,
        unit="dtdurations",
        paint="none",
    ),
    stat(
        Text("sight", "visibilité"),
        [prom(f"max(vigie_coverage_ratio{{{ONE}}})", instant=True)],
        (4, 4),
        unit="percentunit",
        steps=COVERAGE,
        about=Text(
            "Share of its pairs of target and vantage that are up or down, not unknown.",
            "Part de ses couples cible et point de vue qui sont disponibles ou non, et non inconnus.",
        ),
    ),
    stat(Text("quorum margin", "marge de quorum"), [prom(f"max(vigie_quorum_margin_vantages{{{ONE}}})", instant=True)], (4, 4), steps=MARGIN),
    row(Text("State", "État")),
    timeline(
        Text("Service and targets", "Service et cibles"),
        [
            prom(trusted("vigie_service_state", chosen=ONE), "{{service}}"),
            prom('max by (target) (vigie_target_state{target=~"$target"})', "{{target}}", ref="B"),
        ],
        (24, 6),
        words=STATE_WORDS,
        about=Text("As judged by quorum, at the frontier of then.", "Jugé par quorum, à la frontière du moment."),
    ),
    timeline(
        Text("Evidence by vantage", "Preuves par point de vue"),
        [
            sql(
                f"""
                SELECT toStartOfInterval(fromUnixTimestamp64Micro(t0_us, 'UTC'), INTERVAL $__interval_s second) AS time,
                concat(target, ' ← ', vantage) AS seen,
                multiIf(countIf(effective = 'fail') > 0, 2, countIf(effective = 'ok') > 0, 0, 1) AS value
                FROM samples WHERE {OF_TARGET_SQL} AND t0_us BETWEEN {FROM_US} AND {TO_US}
                GROUP BY time, seen ORDER BY time, seen
            """,
                series=True,
            )
        ],
        (24, 7),
        words=RESULT_WORDS,
        named="${__field.labels.seen}",
        about=Text(
            "What the engine took the samples for; the worst of each interval.",
            "Ce que le moteur a retenu des mesures ; le pire de chaque intervalle.",
        ),
    ),
    row(Text("Latency", "Latence")),
    heatmap(
        Text("Latency, failures included", "Latence, échecs compris"),
        [prom(LATENCY_BUCKETS, "{{le}}", heatmap=True)],
        (12, 9),
        about=Text("A timeout counts with the time that it took.", "Un délai dépassé compte pour le temps qu’il a pris."),
    ),
    lines(
        Text("Phases", "Phases"),
        [prom(f"avg by (phase) ({{{PHASES}, {OF_TARGET}}})", "{{phase}}")],
        (12, 9),
        unit="s",
        stacked=True,
        colours=PHASE_COLOURS,
        about=Text(
            "Of the last attempts, on average over vantages and targets: failed ones as far as they came.",
            "Des dernières tentatives, en moyenne sur points de vue et cibles ; les échecs jusqu’où ils sont allés.",
        ),
    ),
    row(Text("Failures", "Échecs")),
    lines(
        Text("Failures by reason", "Échecs par motif"),
        [
            prom(
                f"sum by (reason, probe) (increase(vigie_probe_reasons_total{{{OF_TARGET}}}[$__rate_interval])) > 0",
                "{{reason}} ← {{probe}}",
            )
        ],
        (8, 9),
        style="bars",
        stacked=True,
        min=0,
    ),
    table(
        Text("Last failures", "Derniers échecs"),
        [
            sql(f"""
                SELECT t0_at AS at, reason, vantage, target, outcome, effective, attempts, (t1_us - t0_us) / 1e6 AS took,
                toString(phases_us) AS phases
                FROM samples WHERE {OF_TARGET_SQL} AND outcome != 'ok' AND t0_us BETWEEN {FROM_US} AND {TO_US}
                ORDER BY t0_us DESC LIMIT 1 BY target, vantage, run, seq LIMIT 100
            """)
        ],
        (16, 9),
        ["at", "reason", "vantage", "target", "outcome", "effective", "attempts", "took", "phases"],
        links={},
    ),
    row(Text("What it comes to", "Ce qu’il en résulte")),
    lines(
        Text("Burn rates", "Vitesses de consommation"),
        [
            prom(f"max by (window) (vigie_burn_rate_ratio{{{ONE}}}) > 0.01", "{{window}}"),
            prom(f"max by (window) (vigie_burn_rate_observed_ratio{{{ONE}}}) > 0.01", Text("{{window}} seen", "{{window}} vu"), ref="B"),
        ],
        (8, 8),
        log=True,
        limit=True,
        steps=EVEN_BURN,
        no_value=Text("nothing burns", "rien ne consomme"),
    ),
    table(
        Text("Outage windows", "Fenêtres d’indisponibilité"),
        [
            sql(f"""
                SELECT {WINDOW_COLUMNS} FROM windows_current
                WHERE service = '$service' AND onset_us < {TO_US} AND ifNull(end_us, as_of_us) >= {FROM_US}
                ORDER BY onset_us DESC LIMIT 100
            """)
        ],
        (16, 8),
        WINDOW_HEADINGS,
    ),
    table(
        Text("Unknown time", "Temps inconnu"),
        [
            sql(f"""
                SELECT start_at AS onset, end_at AS `end`, (ifNull(end_us, as_of_us) - start_us) / 1e6 AS length
                FROM gaps_current
                WHERE service = '$service' AND start_us < {TO_US} AND ifNull(end_us, as_of_us) >= {FROM_US}
                ORDER BY start_us DESC LIMIT 100
            """)
        ],
        (24, 6),
        ["onset", "end", "length"],
        about=Text("Neither up nor down by evidence, outside outage windows.", "Ni disponible ni indisponible selon les preuves, hors fenêtres."),
    ),
]

MONTH_SQL = f"month = '$month' AND {CHOSEN_SQL}"
MONTH_PANELS = [
    stat(
        Text("✗ breached", "✗ manqués"),
        [sql(f"SELECT countIf(verdict = 'breached') AS breached FROM accounts_current WHERE {MONTH_SQL}")],
        (4, 4),
        steps=ANY_IS_BAD,
    ),
    stat(
        Text("? undecided", "? indécis"),
        [sql(f"SELECT countIf(verdict = 'undecided') AS undecided FROM accounts_current WHERE {MONTH_SQL}")],
        (4, 4),
        steps=ANY_IS_UNKNOWN,
        about=Text("The month is not over, or its unknown time could decide it.", "Le mois n’est pas fini, ou son temps inconnu pourrait en décider."),
    ),
    stat(
        Text("✓ compliant", "✓ tenus"),
        [sql(f"SELECT countIf(verdict = 'compliant') AS compliant FROM accounts_current WHERE {MONTH_SQL}")],
        (4, 4),
    ),
    stat(
        Text("still provisional", "encore provisoires"),
        [sql(f"SELECT countIf(NOT final) AS provisional FROM accounts_current WHERE {MONTH_SQL}")],
        (4, 4),
        steps=ANY_IS_UNKNOWN,
        about=Text(
            "Until no sample can change the month any more: nearly a week after its end. Claims and exclusions still can.",
            "Tant qu’une mesure peut encore changer le mois : près d’une semaine après sa fin. Réclamations et exclusions le peuvent encore.",
        ),
    ),
    stat(
        Text("complete up to", "complet jusqu’au"),
        [sql("SELECT min(as_of_us) / 1000 AS as_of FROM frontiers_current")],
        (8, 4),
        unit="dateTimeAsIso",
        paint="none",
    ),
    table(
        Text("The contract, $month", "Le contrat, $month"),
        [
            sql(f"""
                SELECT service, verdict, down_us / 1e6 AS down, remaining_us / 1e6 AS remaining,
                100 - round(budget_us / base_us * 1e6) / 1e4 AS objective, availability, availability_low AS low,
                availability_to_date AS to_date, (gross_down_us - down_us) / 1e6 AS excluded, unknown_us / 1e6 AS unknown,
                budget_us / 1e6 AS budget, indicator, toString(final) AS final, fromUnixTimestamp64Micro(as_of_us, 'UTC') AS as_of
                FROM accounts_current WHERE {MONTH_SQL} ORDER BY indicator, service
            """)
        ],
        (24, 10),
        [
            "service", "verdict", "down", "remaining", "objective", "availability", "low", "to_date", "excluded", "unknown", "budget",
            "indicator", "final", "as_of",
        ],
        about=Text(
            "As `vigie report` says it: down is what counts, after exclusions; at worst, all unknown time was down.",
            "Comme le dit `vigie report` : indisponible est ce qui compte, exclusions déduites ; au pire, tout le temps inconnu était indisponible.",
        ),
    ),
    lines(
        Text("Budget used over the month", "Budget utilisé au fil du mois"),
        [
            sql(
                f"""
                SELECT toStartOfInterval(fromUnixTimestamp64Micro(as_of_us, 'UTC'), INTERVAL $__interval_s second) AS time, service,
                argMax(down_us, ver) / greatest(argMax(budget_us, ver), 1) AS used
                FROM accounts WHERE {MONTH_SQL} AND NOT retracted AND as_of_us BETWEEN {FROM_US} AND {TO_US}
                GROUP BY time, service ORDER BY time, service
            """,
                series=True,
            )
        ],
        (12, 9),
        unit="percentunit",
        min=0,
        named="${__field.labels.service}",
        limit=True,
        steps=[(None, UP), (0.75, WARNING), (1, DOWN)],
    ),
    lines(
        Text("Unknown time over the month", "Temps inconnu au fil du mois"),
        [
            sql(
                f"""
                SELECT toStartOfInterval(fromUnixTimestamp64Micro(as_of_us, 'UTC'), INTERVAL $__interval_s second) AS time, service,
                argMax(unknown_us, ver) / 1e6 AS unknown
                FROM accounts WHERE {MONTH_SQL} AND NOT retracted AND as_of_us BETWEEN {FROM_US} AND {TO_US}
                GROUP BY time, service ORDER BY time, service
            """,
                series=True,
            )
        ],
        (12, 9),
        unit="dtdurations",
        min=0,
        named="${__field.labels.service}",
        about=Text("What separates the availability from its low bound.", "Ce qui sépare la disponibilité de sa borne basse."),
    ),
    table(
        Text("Outage windows", "Fenêtres d’indisponibilité"),
        [
            sql(f"""
                SELECT {WINDOW_COLUMNS} FROM windows_current
                WHERE {CHOSEN_SQL} AND onset_us < {MONTH_US[1]} AND ifNull(end_us, as_of_us) >= {MONTH_US[0]}
                ORDER BY onset_us DESC LIMIT 1000
            """)
        ],
        (24, 9),
        WINDOW_HEADINGS,
        about=Text(
            "Those of the month and of a day around it. Never add their lengths: exclusions are taken off time, each instant once.",
            "Celles du mois, à un jour près. N’en additionnez pas les durées : les exclusions se déduisent du temps, chaque instant une fois.",
        ),
    ),
    table(
        Text("Exclusions", "Exclusions"),
        [
            sql(f"""
                SELECT id AS name, state, fromUnixTimestamp64Micro(start_us, 'UTC') AS onset,
                fromUnixTimestamp64Micro(end_us, 'UTC') AS `end`, arrayStringConcat(services, ', ') AS services, kind,
                fromUnixTimestamp64Micro(announced_us, 'UTC') AS announced, fromUnixTimestamp64Micro(appended_us, 'UTC') AS recorded,
                approved_by, override_by, reason
                FROM exclusions_current AS x
                WHERE {EXCLUDES_CHOSEN_SQL} AND start_us < {MONTH_US[1]} AND end_us >= {MONTH_US[0]}
                ORDER BY start_us DESC LIMIT 1000
            """)
        ],
        (24, 7),
        ["name", "state", "onset", "end", "services", "kind", "announced", "recorded", "approved_by", "override_by", "reason"],
        links={},
        about=Text(
            "Only approved ones count, of the kinds that the indicator allows; of a maintenance only what was recorded before it began.",
            "Seules les approuvées comptent, des natures que l’indicateur admet ; d’une maintenance, seul ce qui fut enregistré avant son début.",
        ),
    ),
    table(
        Text("Customers’ claims", "Réclamations des clients"),
        [
            sql(f"""
                SELECT c.id AS ticket, c.service AS service, c.state AS state, w.advice AS advice,
                fromUnixTimestamp64Micro(c.opened_us, 'UTC') AS opened, fromUnixTimestamp64Micro(c.resolved_us, 'UTC') AS resolved,
                c.actor AS actor, c.reason AS reason
                FROM claims_current AS c
                LEFT JOIN (SELECT log_group, claim, toString(advice) AS advice FROM candidates_current) AS w
                ON w.log_group = c.log_group AND w.claim = c.id
                WHERE c.service IN (${{service:sqlstring}}) AND c.opened_us BETWEEN {MONTH_US[0]} AND {MONTH_US[1]}
                ORDER BY c.opened_us DESC LIMIT 1000
            """)
        ],
        (24, 7),
        ["ticket", "service", "state", "advice", "opened", "resolved", "actor", "reason"],
        about=Text(
            "Those with an advice count nothing yet and wait for support’s decision.",
            "Celles qui portent un avis ne comptent pas encore et attendent la décision du support.",
        ),
    ),
]

SLOW_OBJECTIVE = 'max by (target) (vigie_latency_objective_seconds{target=~"$target"})'


def quantile(share):
    buckets = 'rate(vigie_probe_latency_seconds_bucket{instance=~"$target", result="ok"}[$__rate_interval])'
    return f"histogram_quantile({share}, sum by (le) ({buckets}))"


LATENCY_PANELS = [
    stat(
        Text("objective", "objectif"),
        [prom(SLOW_OBJECTIVE, "{{target}}", instant=True)],
        (6, 4),
        name=True,
        unit="s",
        paint="none",
    ),
    stat(
        Text("too slow, last 5 minutes", "trop lentes, 5 dernières minutes"),
        [prom('max by (target) (vigie_latency_over_recent_ratio{target=~"$target", window="5m"})', "{{target}}", instant=True)],
        (6, 4),
        name=True,
        unit="percentunit",
        steps=OVER_OBJECTIVE,
    ),
    stat(
        Text("too slow, last hour", "trop lentes, dernière heure"),
        [prom('max by (target) (vigie_latency_over_recent_ratio{target=~"$target", window="1h"})', "{{target}}", instant=True)],
        (6, 4),
        name=True,
        unit="percentunit",
        steps=OVER_OBJECTIVE,
    ),
    stat(
        Text("slowest this month", "la plus lente ce mois"),
        [prom('max by (target, month) (vigie_latency_max_seconds{target=~"$target"})', "{{target}} {{month}}", instant=True)],
        (6, 4),
        name=True,
        unit="s",
        steps=CONTRACT_LATENCY,
    ),
    table(
        Text("The contract, $month", "Le contrat, $month"),
        [
            sql(f"""
                SELECT target, ok AS samples, `over`, `over` / ok AS share, max_us / 1e6 AS slowest,
                fromUnixTimestamp64Micro(as_of_us, 'UTC') AS as_of
                FROM latency_current WHERE month = '$month' AND {OF_TARGET_SQL} ORDER BY target
            """)
        ],
        (24, 6),
        ["target", "samples", "over", "share", "slowest", "as_of"],
        links={},
        about=Text(
            "Successful samples above the objective that was in force at their time.",
            "Mesures réussies au-dessus de l’objectif en vigueur à leur instant.",
        ),
    ),
    heatmap(Text("Latency, failures included", "Latence, échecs compris"), [prom(LATENCY_BUCKETS, "{{le}}", heatmap=True)], (12, 9)),
    lines(
        Text("Percentiles, and the objective", "Percentiles, et l’objectif"),
        [
            prom(quantile(0.5), "p50"),
            prom(quantile(0.95), "p95", ref="B"),
            prom(quantile(0.99), "p99", ref="C"),
            prom('min(vigie_latency_objective_seconds{target=~"$target"})', Text("objective", "objectif"), ref="D"),
        ],
        (12, 9),
        unit="s",
        limit=True,
        steps=CONTRACT_LATENCY,
        colours=SHARE_COLOURS,
        about=Text("Of successful attempts, over all vantages.", "Des tentatives réussies, tous points de vue confondus."),
    ),
    lines(
        Text("95 % are faster, by vantage", "95 % sont plus rapides, par point de vue"),
        [
            prom(
                "histogram_quantile(0.95, sum by (le, probe) (rate(vigie_probe_latency_seconds_bucket"
                '{instance=~"$target", result="ok"}[$__rate_interval])))',
                "{{probe}}",
            )
        ],
        (12, 9),
        unit="s",
        limit=True,
        steps=CONTRACT_LATENCY,
    ),
    lines(
        Text("Phases", "Phases"),
        [prom(f"avg by (phase) ({{{PHASES}, {OF_TARGET}}})", "{{phase}}")],
        (12, 9),
        unit="s",
        stacked=True,
        colours=PHASE_COLOURS,
    ),
    lines(
        Text("Percentiles by hour, for ever", "Percentiles par heure, pour toujours"),
        [
            sql(
                f"""
                SELECT hour AS time, concat(target, ' ← ', vantage) AS seen, p50_us / 1e6 AS p50, p95_us / 1e6 AS p95, p99_us / 1e6 AS p99
                FROM latency_percentiles
                WHERE {OF_TARGET_SQL} AND toUnixTimestamp(hour) BETWEEN ${{__from}} / 1000 - 3600 AND ${{__to}} / 1000
                ORDER BY time, seen
            """,
                series=True,
            )
        ],
        (12, 9),
        unit="s",
        limit=True,
        steps=CONTRACT_LATENCY,
        named="${__field.name} ${__field.labels.seen}",
        about=Text("What stays when the samples are gone, after 90 days.", "Ce qui reste quand les mesures ont disparu, après 90 jours."),
    ),
    table(
        Text("Slowest samples", "Mesures les plus lentes"),
        [
            sql(f"""
                SELECT t1_at AS at, latency_us / 1e6 AS took, vantage, target, attempts, toString(phases_us) AS phases
                FROM samples
                WHERE {OF_TARGET_SQL} AND effective = 'ok' AND latency_us IS NOT NULL AND t0_us BETWEEN {FROM_US} AND {TO_US}
                ORDER BY latency_us DESC LIMIT 1 BY target, vantage, run, seq LIMIT 50
            """)
        ],
        (12, 9),
        ["at", "took", "vantage", "target", "attempts", "phases"],
        links={},
    ),
]

OF_PROBE = 'probe=~"$vantage"'
OF_VANTAGE = 'vantage=~"$vantage"'
SUPERVISION = [
    row(Text("Whether it can be believed", "Si l’on peut s’y fier")),
    table(
        Text("Not to be trusted", "Indignes de foi"),
        [prom("sum by (instance, group, cause) (vigie_stale)", table=True)],
        (8, 8),
        ["cause", "untrusted", "instance", "group"],
        value="untrusted",
        sort="untrusted",
        about=Text("YES while what this member exports may not be trusted, by cause.", "OUI tant que ce que ce membre exporte n’est pas digne de foi, par cause."),
    ),
    lines(
        Text("Frontier behind the wall clock", "Retard de la frontière"),
        [prom("max by (group, instance) (vigie_frontier_lag_seconds)", "{{group}} {{instance}}")],
        (8, 8),
        unit="s",
        limit=True,
        steps=LAG,
        about=Text("Settle and a second or two in good health.", "Le délai de stabilisation et une ou deux secondes quand tout va bien."),
    ),
    lines(
        Text("Clock of the log", "Horloge du journal"),
        [prom("vigie_log_clock_difference_seconds", "{{group}} {{instance}}")],
        (8, 8),
        unit="s",
        limit=True,
        steps=CLOCK,
        about=Text("Beyond 0.3 s either way a clock is wrong.", "Au-delà de 0,3 s dans un sens ou l’autre, une horloge est fausse."),
    ),
    row(Text("Vantages and probes", "Points de vue et sondes")),
    stat(
        Text("silent", "muets"),
        [prom(f"max by (group, vantage) (vigie_vantage_silent{{{OF_VANTAGE}}})", "{{vantage}} ({{group}})", instant=True)],
        (6, 7),
        name=True,
        words=FLAG_WORDS,
        steps=ANY_IS_BAD,
    ),
    stat(
        Text("gated: all its anchors are down", "écartés : toutes leurs ancres sont en panne"),
        [prom(f"max by (group, vantage) (vigie_gate_active{{{OF_VANTAGE}}})", "{{vantage}} ({{group}})", instant=True)],
        (6, 7),
        name=True,
        words=FLAG_WORDS,
        steps=ANY_IS_BAD,
    ),
    lines(
        Text("Age of the newest evidence", "Âge de la preuve la plus récente"),
        [prom(f"max by (group, vantage) (vigie_vantage_sample_age_seconds{{{OF_VANTAGE}}})", "{{vantage}} ({{group}})")],
        (6, 7),
        unit="s",
        limit=True,
        steps=SILENCE,
    ),
    lines(
        Text("Changes of process in an hour", "Changements de processus en une heure"),
        [prom(f"max by (group, vantage) (increase(vigie_vantage_run_changes_total{{{OF_VANTAGE}}}[1h]))", "{{vantage}} ({{group}})")],
        (6, 7),
        min=0,
        about=Text(
            "1 for a restart; ever more while two probes share a name.",
            "1 pour un redémarrage ; toujours plus tant que deux sondes partagent un nom.",
        ),
    ),
    lines(
        Text("Samples per second by result", "Mesures par seconde, par résultat"),
        [prom(f"sum by (probe, result) (rate(vigie_probe_samples_total{{{OF_PROBE}}}[$__rate_interval]))", "{{probe}} {{result}}")],
        (8, 8),
        unit="cps",
        stacked=True,
        colours=RESULT_COLOURS,
        min=0,
    ),
    lines(
        Text("Not measured or not known, by reason", "Non mesuré ou non su, par motif"),
        [prom(f"sum by (probe, reason) (rate(vigie_probe_reasons_total{{{OF_PROBE}}}[$__rate_interval]))", "{{probe}} {{reason}}")],
        (8, 8),
        unit="cps",
        min=0,
    ),
    lines(
        Text("Slots begin late (99 %)", "Retard au départ (99 %)"),
        [
            prom(
                f"histogram_quantile(0.99, sum by (le, probe) (rate(vigie_probe_schedule_lag_seconds_bucket{{{OF_PROBE}}}[$__rate_interval])))",
                "{{probe}}",
            )
        ],
        (8, 8),
        unit="s",
        limit=True,
        steps=[(None, UP), (0.05, WARNING)],
    ),
    bars(
        Text("Admitted slots", "Créneaux admis"),
        [prom(f"min by (probe) (vigie_probe_admitted_ratio{{{OF_PROBE}}})", "{{probe}}", instant=True)],
        (6, 7),
        unit="percentunit",
        min=0,
        max=1,
        steps=ADMITTED,
        about=Text("Below 100 % a probe is overloaded.", "Sous 100 %, une sonde est surchargée."),
    ),
    bars(
        Text("Spool, share of its limit", "File sur disque, part de sa limite"),
        [prom(f"max by (probe) (vigie_probe_spool_bytes{{{OF_PROBE}}} / vigie_probe_spool_limit_bytes)", "{{probe}}", instant=True)],
        (6, 7),
        unit="percentunit",
        min=0,
        max=1,
        steps=SPOOL,
    ),
    lines(
        Text("Samples that wait for the log", "Mesures en attente du journal"),
        [prom(f"max by (probe) (vigie_probe_samples_spooled{{{OF_PROBE}}})", "{{probe}}")],
        (6, 7),
        min=0,
    ),
    lines(
        Text("Lost, and failures on the way", "Pertes et échecs en chemin"),
        [
            prom(f"sum by (probe) (increase(vigie_probe_samples_dropped_total{{{OF_PROBE}}}[1h]))", Text("{{probe}} lost", "{{probe}} perdues")),
            prom(
                f"sum by (probe) (increase(vigie_probe_spool_failures_total{{{OF_PROBE}}}[1h]))",
                Text("{{probe}} spool fails", "{{probe}} échecs de la file"),
                ref="B",
            ),
            prom(
                f"sum by (probe) (increase(vigie_probe_delivery_failures_total{{{OF_PROBE}}}[1h]))",
                Text("{{probe}} delivery fails", "{{probe}} échecs de livraison"),
                ref="C",
            ),
        ],
        (6, 7),
        min=0,
    ),
    lines(
        Text("Clocks of the probes", "Horloges des sondes"),
        [prom(f"max by (probe) (vigie_probe_clock_error_seconds{{{OF_PROBE}}})", "{{probe}}")],
        (6, 7),
        unit="s",
        limit=True,
        steps=CLOCK,
        about=Text("How far each may be off the log’s, as far as is known.", "De combien chacune peut s’écarter du journal, autant qu’on le sache."),
    ),
    lines(
        Text("Clock steps, sleeps and stalls in an hour", "Sauts d’horloge, sommeils et arrêts en une heure"),
        [
            prom(f"sum by (probe) (increase(vigie_probe_clock_steps_total{{{OF_PROBE}}}[1h]))", Text("{{probe}} steps", "{{probe}} sauts")),
            prom(
                f"sum by (probe) (increase(vigie_probe_suspensions_total{{{OF_PROBE}}}[1h]))",
                Text("{{probe}} sleeps", "{{probe}} sommeils"),
                ref="B",
            ),
            prom(f"sum by (probe) (increase(vigie_probe_stalls_total{{{OF_PROBE}}}[1h]))", Text("{{probe}} stalls", "{{probe}} arrêts"), ref="C"),
        ],
        (6, 7),
        min=0,
    ),
    lines(
        Text("The probe’s own noise", "Bruit propre de la sonde"),
        [prom(f"max by (probe, share) (vigie_probe_noise_floor_seconds{{{OF_PROBE}}})", "{{probe}} {{share}}")],
        (6, 7),
        unit="s",
        about=Text("It is in every latency.", "Il est dans toute latence."),
    ),
    bars(
        Text("What ends, and in what time", "Ce qui expire, et dans combien de temps"),
        [
            prom(
                f"min by (instance) (vigie_probe_credential_expiry_timestamp_seconds{{{OF_PROBE}}}) - time()",
                Text("credential of {{instance}}", "identifiant de {{instance}}"),
                instant=True,
            ),
            prom(
                f"min by (instance) (probe_ssl_earliest_cert_expiry{{{OF_PROBE}}}) - time()",
                Text("certificate of {{instance}}", "certificat de {{instance}}"),
                ref="B",
                instant=True,
            ),
        ],
        (6, 7),
        unit="dtdurations",
        min=0,
        max=90 * 86_400,
        steps=ENDS,
        about=Text(
            "Of a credential what the catalogue says, or itself. A ticket comes a fortnight before.",
            "Pour un identifiant : selon le catalogue, ou lui-même. Un ticket arrive quinze jours avant.",
        ),
    ),
    row(Text("Log, engine and store", "Journal, moteur et base")),
    lines(
        Text("Records per second by type", "Enregistrements par seconde, par type"),
        [prom("max by (group, type) (rate(vigie_records_total[$__rate_interval]))", "{{type}} ({{group}})")],
        (8, 8),
        unit="cps",
        min=0,
    ),
    table(
        Text("Refused records", "Enregistrements refusés"),
        [
            sql("""
                SELECT max(appended_at) AS at, reason, uniqExact(ver) AS samples, any(detail) AS detail, log_group AS `group`
                FROM dead_letters GROUP BY log_group, reason ORDER BY at DESC LIMIT 50
            """)
        ],
        (8, 8),
        ["at", "reason", "samples", "detail", "group"],
        links={},
        about=Text("Those of the last 400 days, and an example of each.", "Ceux des 400 derniers jours, avec un exemple de chaque."),
    ),
    lines(
        Text("Rows that the store has not taken", "Lignes que la base n’a pas prises"),
        [prom("max by (group, instance) (vigie_store_waiting_rows)", "{{group}} {{instance}}")],
        (8, 8),
        min=0,
    ),
    lines(
        Text("Failures in an hour", "Échecs en une heure"),
        [
            prom("sum by (group) (increase(vigie_store_apply_failures_total[1h]))", Text("store ({{group}})", "base ({{group}})")),
            prom("sum by (group) (increase(vigie_log_append_failures_total[1h]))", Text("log ({{group}})", "journal ({{group}})"), ref="B"),
            prom("sum by (group) (increase(vigie_snapshot_failures_total[1h]))", Text("snapshot ({{group}})", "instantané ({{group}})"), ref="C"),
            prom("sum by (group) (increase(vigie_catalogue_refused_total[1h]))", Text("catalogue ({{group}})", "catalogue ({{group}})"), ref="D"),
        ],
        (8, 8),
        min=0,
    ),
    lines(
        Text("Age of the snapshot", "Âge de l’instantané"),
        [prom("min by (group) (time() - vigie_snapshot_kept_timestamp_seconds)", "{{group}}")],
        (8, 8),
        unit="dtdurations",
        limit=True,
        steps=SNAPSHOT,
        about=Text("About what a restart reads anew.", "À peu près ce qu’un redémarrage relit."),
    ),
    lines(
        Text("Records that are not archived", "Enregistrements non archivés"),
        [prom("min by (group) (vigie_archive_behind_records)", "{{group}}")],
        (8, 8),
        min=0,
        no_value=Text("no archive", "pas d’archive"),
    ),
    lines(
        Text("Versions of windows by status", "Versions de fenêtres par état"),
        [prom("max by (group, status) (increase(vigie_window_versions_total[1h]))", "{{group}} {{status}}")],
        (12, 7),
        min=0,
        colours=STATUS_COLOURS,
        about=Text("In an hour. Retracted ones mean that evidence came late.", "En une heure. Les retirées disent que des preuves sont venues tard."),
    ),
    lines(
        Text("Samples taken as no evidence", "Mesures non retenues"),
        [
            prom(
                f"sum by (vantage, cause) (rate(vigie_samples_voided_total{{{OF_VANTAGE}}}[$__rate_interval])) or vector(0)",
                "{{vantage}} {{cause}}",
            )
        ],
        (12, 7),
        unit="cps",
        min=0,
        about=Text(
            "Although they were sent as ok or fail. `future` from two vantages means that the log’s clock is wrong.",
            "Bien qu’envoyées comme ok ou échec. `future` de deux points de vue dit que l’horloge du journal est fausse.",
        ),
    ),
    row(Text("What it costs", "Ce que cela coûte")),
    lines(
        Text("Time of a scrape", "Durée d’une collecte"),
        [prom('max by (job, instance) (scrape_duration_seconds{job=~"vigie-.*"})', "{{job}} {{instance}}")],
        (8, 8),
        unit="s",
        limit=True,
        steps=SCRAPE,
    ),
    lines(
        Text("Series of a scrape", "Séries d’une collecte"),
        [prom('max by (job, instance) (scrape_samples_scraped{job=~"vigie-.*"})', "{{job}} {{instance}}")],
        (8, 8),
        min=0,
    ),
    table(
        Text("Tables of the store", "Tables de la base"),
        [
            sql("""
                SELECT name AS table, total_rows AS rows, total_bytes AS bytes FROM system.tables
                WHERE database = currentDatabase() AND total_bytes > 0 ORDER BY bytes DESC
            """)
        ],
        (8, 8),
        ["table", "rows", "bytes"],
        links={},
    ),
]


class Dashboard(NamedTuple):
    name: str
    title: Text
    about: Text
    since: str
    refresh: str
    variables: list
    panels: list
    annotations: tuple = (WINDOWS_ANNOTATED, EXCLUSIONS_ANNOTATED)


CHOICE = [SCOPE, INDICATOR, SERVICES]
DASHBOARDS = [
    Dashboard(
        "wall",
        Text("vigie · SOC wall", "vigie · Mur du SOC"),
        Text("The region now: what is down, what nobody knows, and why.", "La région maintenant : ce qui est indisponible, ce que nul ne sait, et pourquoi."),
        "now-1h",
        "10s",
        CHOICE,
        WALL,
    ),
    Dashboard(
        "service",
        Text("vigie · One service", "vigie · Un service"),
        Text("One service: its state by vantage, its latency, its failures.", "Un service : son état par point de vue, sa latence, ses échecs."),
        "now-6h",
        "30s",
        [SCOPE, INDICATOR, SERVICE, TARGET],
        SERVICE_PANELS,
    ),
    Dashboard(
        "month",
        Text("vigie · SLA month", "vigie · Mois contractuel"),
        Text("A month against the contract.", "Un mois face au contrat."),
        "now-31d",
        "5m",
        CHOICE + [MONTH],
        MONTH_PANELS,
    ),
    Dashboard(
        "latency",
        Text("vigie · S3 latency", "vigie · Latence S3"),
        Text("Targets with a latency objective: 150 ms for S3.", "Cibles avec un objectif de latence : 150 ms pour S3."),
        "now-6h",
        "30s",
        [SLOW, MONTH],
        LATENCY_PANELS,
        annotations=(),
    ),
    Dashboard(
        "supervision",
        Text("vigie · Supervision itself", "vigie · La supervision elle-même"),
        Text("Whether vigie sees, keeps up, and what it costs.", "Si vigie voit, suit, et ce qu’elle coûte."),
        "now-3h",
        "30s",
        [VANTAGE],
        SUPERVISION,
        annotations=(),
    ),
]


def uid(name, language):
    return f"vigie-{name}-{language}"


def link(title, url, variables=True, blank=False):
    return {
        "type": "link",
        "title": title,
        "url": url,
        "icon": "external link" if blank else "dashboard",
        "tooltip": "",
        "tags": [],
        "asDropdown": False,
        "targetBlank": blank,
        "includeVars": variables,
        "keepTime": variables,
    }


def dashboard(one, language, url):
    """The JSON of a dashboard in one language."""
    (other,) = (known for known in LANGUAGES if known != language)
    links = [link(known.title, f"/d/{uid(known.name, language)}") for known in DASHBOARDS if known is not one]
    links.append(link({"en": "English", "fr": "Français"}[other], f"/d/{uid(one.name, other)}"))
    links.append(link(Text("Status page", "Page d’état"), "${page}", variables=False, blank=True))
    tree = {
        "uid": uid(one.name, language),
        "title": one.title,
        "description": one.about,
        "tags": ["vigie", language],
        "timezone": "browser",
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 39,
        "refresh": one.refresh,
        "time": {"from": one.since, "to": "now"},
        "timepicker": {"refresh_intervals": ["5s", "10s", "30s", "1m", "5m"]},
        "links": links,
        "templating": {"list": SOURCES + one.variables + [page(url)]},
        "annotations": {"list": list(one.annotations)},
        "panels": placed(one.panels),
    }
    return json.dumps(said(tree, language), ensure_ascii=False, indent=1) + "\n"


def main():
    parser = argparse.ArgumentParser(description="the Grafana dashboards of a region")
    parser.add_argument("--check", action="store_true", help="write nothing, and fail if a file differs")
    parser.add_argument("--page", default="http://127.0.0.1:8420", metavar="URL", help="where the status page is")
    parser.add_argument("--out", type=Path, default=HERE, metavar="DIR", help="where they are written")
    args = parser.parse_args()
    wanted = {
        args.out / language / f"{one.name}.json": dashboard(one, language, args.page) for one in DASHBOARDS for language in LANGUAGES
    }
    if args.check:
        there = {path for language in LANGUAGES for path in (args.out / language).glob("*")}
        wrong = [path for path, text in wanted.items() if path not in there or path.read_text("utf-8") != text]
        wrong += sorted(there - wanted.keys())
        for path in wrong:
            print(f"{path}: not what dashboards/generate.py writes; run it", file=sys.stderr)
        return 1 if wrong else 0
    for path, text in wanted.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
