#!/usr/bin/env python3
"""Holds dashboards against Grafana's own schema: target/services/python/bin/python grafana_schema.py FILE…

The schema is the typed model that Grafana Labs generate from it and publish (PyPI `grafana-foundation-sdk`, of Grafana 11.6; Apache-2.0).
It is read strictly: a field that the model does not have is a mistake, and so is a value that is not of the field's type. Options and
custom fields of a panel are those of its plugin, queries of Prometheus those of its model. Not in the model, and so not checked here: the
query of ClickHouse, a plugin of its own, and what transformations and overrides carry.
"""

import enum
import importlib
import inspect
import json
import re
import sys
import types
import typing
from pathlib import Path

from grafana_foundation_sdk.models import dashboard, prometheus

# Plugins whose model has another name.
MODELS = {"state-timeline": "statetimeline"}


def fields(model):
    """The names of a model's fields in JSON, with their types."""
    names = re.findall(r'"(\w+)"(?:: |\] = )self\.(\w+)', inspect.getsource(model.to_json))
    hints = typing.get_type_hints(model, vars(sys.modules[model.__module__]))
    return {name: hints[attribute] for name, attribute in names}


def is_model(hint):
    return inspect.isclass(hint) and hasattr(hint, "from_json")


def mistakes(value, hint, where):
    """What is wrong with a value that should be of this type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in (object, typing.Any):
        return []
    if origin in (typing.Union, types.UnionType):
        return union(value, arguments, where)
    if origin is typing.Literal:
        return [] if value in arguments else [f"{where}: {value!r} is none of {arguments}"]
    if origin is list:
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [wrong for at, item in enumerate(value) for wrong in mistakes(item, arguments[0], f"{where}[{at}]")]
    if origin is dict:
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        return [wrong for key, item in value.items() for wrong in mistakes(item, arguments[1], f"{where}.{key}")]
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return [] if value in [one.value for one in hint] else [f"{where}: {value!r} is no {hint.__name__}"]
    if is_model(hint):
        return of_model(value, hint, where)
    wanted = (int, float) if hint is float else hint
    is_right = isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))
    return [] if is_right else [f"{where}: {value!r} is no {getattr(hint, '__name__', hint)}"]


def union(value, arguments, where):
    if value is None and type(None) in arguments:
        return []
    if where.endswith("]") and dashboard.Panel in arguments:
        arguments = [dashboard.RowPanel if value.get("type") == "row" else dashboard.Panel]
    found = [mistakes(value, one, where) for one in arguments if one is not type(None)]
    return min(found, key=len)


def of_model(value, model, where):
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no object"]
    known = fields(model)
    wrong = [f"{where}.{name}: {model.__name__} has no such field" for name in value if name not in known]
    for name, item in value.items():
        if name == "targets" and model is dashboard.Panel:
            wrong += [error for at, query in enumerate(item) for error in of_query(query, f"{where}.targets[{at}]")]
        elif name == "target" and model is dashboard.AnnotationQuery:
            wrong += of_query(item, f"{where}.target")
        elif name in known:
            wrong += mistakes(item, known[name], f"{where}.{name}")
    return wrong + (of_plugin(value, where) if model is dashboard.Panel else [])


def of_query(query, where):
    if query["datasource"]["type"] == "prometheus":
        return of_model(query, prometheus.Dataquery, where)
    return mistakes(query["datasource"], dashboard.DataSourceRef, f"{where}.datasource") + mistakes(query.get("refId"), str, f"{where}.refId")


def of_plugin(panel, where):
    """The options and custom fields of a panel, which its plugin's model knows."""
    name = panel["type"]
    plugin = importlib.import_module(f"grafana_foundation_sdk.models.{MODELS.get(name, name)}")
    wrong = of_model(panel.get("options", {}), plugin.Options, f"{where}.options")
    custom = panel.get("fieldConfig", {}).get("defaults", {}).get("custom")
    if custom is not None:
        wrong += of_model(custom, plugin.FieldConfig, f"{where}.custom")
    return wrong


def main():
    wrong = []
    for path in map(Path, sys.argv[1:]):
        wrong += of_model(json.loads(path.read_text("utf-8")), dashboard.Dashboard, path.name)
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
