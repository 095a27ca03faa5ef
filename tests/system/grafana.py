"""What Grafana makes of a dashboard: its variables' values, and the queries that it sends. And whether a dashboard is sound, by
the models that Grafana Labs generate from Grafana's own schemas (grafana-foundation-sdk)."""

import enum
import json
import math
import re
import types
import typing
import urllib.parse

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units
from peers import ROOT, get, query

DASHBOARDS = {file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json"))}
# Keys that Grafana writes and reads, but that its schema leaves out.
BEYOND_THE_SCHEMA = {"definition", "titleFormat", "textFormat", "__systemRef"}
# Of a panel's width, in points: Grafana asks for no more of them.
MAX_POINTS = 1000
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and not name.startswith("_")}
VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\$([A-Za-z_]\w*)")


def panels(board):
    """Each panel with the row that it is folded into, or None."""
    for panel in board["panels"]:
        yield None, panel
        for inner in panel.get("panels", []):
            yield panel, inner


def seconds(duration):
    number, unit = re.fullmatch(r"(\d+)(ms|[smhd])", duration).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def shown(board):
    """The range that a dashboard opens with, in seconds."""
    return seconds(board["time"]["from"].removeprefix("now-"))


def substituted(text, values):
    def value(match):
        name = match[1] or match[2]
        assert name in values, f"{text}: {name} is no variable"
        return values[name]

    return VARIABLE.sub(value, text)


def series(url, selector, start, end):
    parameters = {"match[]": selector, "start": start, "end": end}
    return json.loads(get(f"{url}/api/v1/series?" + urllib.parse.urlencode(parameters))[0])["data"]


def query_range(url, expression, start, end, step):
    """{labels: {time: value}}"""
    parameters = {"query": expression, "start": start, "end": end, "step": step}
    found = json.loads(get(f"{url}/api/v1/query_range?" + urllib.parse.urlencode(parameters))[0])["data"]["result"]
    return {tuple(sorted(one["metric"].items())): {at: float(value) for at, value in one["values"]} for one in found}


class View:
    """A dashboard that somebody looks at: at this Prometheus, which scrapes at this interval, in the `window` seconds before
    `end`, with these choices of variables (else the first value, or all of them)."""

    def __init__(self, board, url, scrape_interval, end, window=None, **chosen):
        self.board, self.url, self.scrape_interval, self.end = board, url, scrape_interval, end
        self.window = window or shown(board)
        self.step = max(math.ceil(self.window / MAX_POINTS), scrape_interval)
        self.values = {
            "__range": f"{self.window:.0f}s",
            "__rate_interval": f"{max(self.step + scrape_interval, 4 * scrape_interval):.0f}s",
        }
        for variable in board["templating"]["list"]:
            if variable["type"] == "query":
                found = self.options(variable)
                self.values[variable["name"]] = chosen.get(variable["name"]) or self.choice(variable, found)

    def options(self, variable):
        asked = substituted(variable["query"]["query"], self.values)
        of_labels = re.fullmatch(r"label_values\((.+), (\w+)\)", asked)
        if of_labels:
            found = series(self.url, of_labels[1], self.end - self.window, self.end)
            return sorted({one[of_labels[2]] for one in found if of_labels[2] in one})
        asked = re.fullmatch(r"query_result\((.+)\)", asked)[1]
        pattern = re.compile(variable["regex"].strip("/"))
        # The text that Grafana makes of a sample.
        texts = []
        for one in self.instant(asked):
            labels = ",".join(f'{name}="{value}"' for name, value in one["metric"].items())
            texts.append(f"{{{labels}}} {one['value'][1]} {one['value'][0]}")
        return [pattern.search(text)[1] for text in texts]

    @staticmethod
    def choice(variable, found):
        if not variable["multi"]:
            return found[0] if found else ""
        if "allValue" in variable:
            return variable["allValue"]
        # As in a pattern in PromQL's quotes.
        return "(" + "|".join(re.sub(r"([.+*?()\[\]{}|^$\\])", r"\\\\\1", one) for one in found) + ")"

    def instant(self, expression):
        return query(self.url, expression, self.end)

    def expressions(self, title):
        (panel,) = [panel for _, panel in panels(self.board) if panel["title"] == title]
        return [substituted(target["expr"], self.values) for target in panel["targets"]]

    def ask(self, title, labels=("hostname",)):
        """What an instant panel's first query gives: {labels: value}, or the value where there is no label to tell them."""
        found = self.instant(self.expressions(title)[0])
        by_labels = {tuple(one["metric"].get(name) for name in labels): float(one["value"][1]) for one in found}
        assert len(by_labels) == len(found), f"{title}: two values of the same labels: {found}"
        if set(by_labels) <= {(None,) * len(labels)}:
            (by_labels,) = by_labels.values()
        return by_labels

    def range(self, expression):
        return query_range(self.url, expression, self.end - self.window, self.end, self.step)

    def annotations(self):
        for annotation in self.board["annotations"]["list"]:
            if "expr" in annotation:
                yield annotation["name"], self.range(substituted(annotation["expr"], self.values))

    def queries(self):
        """Each query of each panel: its row, title, expression, and whether it asks for one moment."""
        for row, panel in panels(self.board):
            for target in panel.get("targets", []):
                yield row, panel["title"], substituted(target["expr"], self.values), target.get("instant", False)


def as_json(model):
    return json.loads(json.dumps(model, cls=JSONEncoder))


def dropped(given, kept, path=""):
    """What Grafana's models do not know of a value, or read as something else."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            if key in kept:
                yield from dropped(value, kept[key], f"{path}/{key}")
            elif key not in BEYOND_THE_SCHEMA:
                yield f"{path}/{key}"
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (one, other) in enumerate(zip(given, kept)):
            yield from dropped(one, other, f"{path}/{index}")
    elif given != kept:
        yield f"{path}: {given!r} was read as {kept!r}"


def mistyped(value, hint, path=""):
    """Where a model holds something else than its types say: the models read any JSON, and do not look."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is object or hint is typing.Any or isinstance(hint, typing.TypeVar):
        return
    if origin in (typing.Union, types.UnionType):
        wrong = [list(mistyped(value, one, path)) for one in arguments]
        if all(wrong):
            # What was meant is the type that fits best: its first mistake lies deepest.
            yield from max(wrong, key=lambda mistakes: mistakes[0].partition(":")[0].count("/"))
    elif origin is list:
        if not isinstance(value, list):
            yield f"{path}: {value!r} is no list"
        else:
            for index, one in enumerate(value):
                yield from mistyped(one, arguments[0], f"{path}/{index}")
    elif origin is dict:
        if not isinstance(value, dict):
            yield f"{path}: {value!r} is no object"
        else:
            for key, one in value.items():
                yield from mistyped(one, arguments[1], f"{path}/{key}")
    elif origin is typing.Literal:
        if value not in arguments:
            yield f"{path}: {value!r} is none of {arguments}"
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        if value not in [one.value for one in hint]:
            yield f"{path}: {value!r} is none of {[one.value for one in hint]}"
    elif hint is float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            yield f"{path}: {value!r} is no number"
    elif isinstance(hint, type):
        # Some models leave what they hold as it came.
        if isinstance(value, dict) and hasattr(hint, "from_json"):
            model = hint.from_json(value)
            yield from dropped(value, as_json(model), path)
            value = model
        if not isinstance(value, hint) or isinstance(value, bool) != (hint is bool):
            yield f"{path}: {value!r} is no {hint.__name__}"
        elif hint.__module__.startswith("grafana_foundation_sdk."):
            yield from mistyped_fields(value, path)


def mistyped_fields(model, path=""):
    for name, hint in typing.get_type_hints(type(model)).items():
        yield from mistyped(getattr(model, name), hint, f"{path}/{name}")


def known_to_grafana(name, board):
    plugins.register_default_plugins()
    model = models.Dashboard.from_json(board)
    wrong = [*dropped(board, as_json(model)), *mistyped_fields(model)]
    for _, panel in panels(board):
        if panel["type"] != "row":
            read = models.Panel.from_json(panel)
            # The options of the panel's kind have models of their own.
            for place, part in (("options", read.options), ("custom", read.field_config.defaults.custom)):
                if part and not isinstance(part, dict):
                    wrong += [f"{panel['title']}/{place}{one}" for one in mistyped_fields(part)]
    assert not wrong, f"{name}: {wrong}"


def overlap(one, other):
    a, b = one["gridPos"], other["gridPos"]
    return a["x"] < b["x"] + b["w"] and b["x"] < a["x"] + a["w"] and a["y"] < b["y"] + b["h"] and b["y"] < a["y"] + a["h"]


def laid_out(name, those):
    for index, panel in enumerate(those):
        at = panel["gridPos"]
        assert 0 <= at["x"] and at["x"] + at["w"] <= 24 and at["w"] and at["h"], f"{name}: {panel['title']} is not on the grid"
        over = [other["title"] for other in those[:index] if overlap(panel, other)]
        assert not over, f"{name}: {panel['title']} lies over {over}"


def texts_of(value):
    if isinstance(value, dict):
        for one in value.values():
            yield from texts_of(one)
    elif isinstance(value, list):
        for one in value:
            yield from texts_of(one)
    elif isinstance(value, str):
        yield value


def sound(name, board):
    known_to_grafana(name, board)
    everything = [panel for _, panel in panels(board)]
    ids = [panel["id"] for panel in everything]
    assert len(set(ids)) == len(ids), f"{name}: two panels of one id"
    laid_out(name, board["panels"])
    for panel in everything:
        laid_out(f"{name}, {panel['title']}", panel.get("panels", []))
        if panel["type"] == "row":
            assert panel["collapsed"] == bool(panel["panels"]), f"{name}: {panel['title']} is half folded"
            continue
        title = f"{name}, {panel['title']}"
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), title
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]), title
        properties = [one for override in panel["fieldConfig"]["overrides"] for one in override["properties"]]
        others = [one["value"] for one in properties if one["id"] == "unit"]
        assert "unit" in panel["fieldConfig"]["defaults"], f"{title} has no unit"
        for unit in [panel["fieldConfig"]["defaults"]["unit"], *others]:
            assert unit in UNITS, f"{title}: {unit} is no unit of Grafana's"
        # A window of a fixed length is too short for some scrape interval, or says something else than the range shown.
        spoken_of = re.search(r"last (day|minute)", panel["title"])
        for target in panel["targets"]:
            fixed = re.findall(r"\[(\d+\w)", target["expr"])
            expected = {"day": ["1d"], "minute": ["1m"]}[spoken_of[1]] if spoken_of else []
            assert fixed == expected, f"{title}: looks at {fixed}, and says {panel['title']!r}"
    defined = [variable["name"] for variable in board["templating"]["list"]]
    assert len(set(defined)) == len(defined), f"{name}: {defined}"
    rest = {key: value for key, value in board.items() if key != "templating"}
    used = {a or b for text in texts_of(rest) for a, b in VARIABLE.findall(text)}
    for variable in board["templating"]["list"]:
        # A variable may use those before it.
        before = {a or b for text in texts_of(variable.get("query")) for a, b in VARIABLE.findall(text)}
        earlier = set(defined[: defined.index(variable["name"])])
        assert before <= earlier | {"__range"}, f"{name}: {variable['name']} uses {before - earlier}"
        assert variable["type"] == "datasource" or variable["datasource"]["uid"] == "${datasource}", variable
        used |= before
    grafanas = {"__range", "__rate_interval", "__url_time_range", "__field", "__value"}
    assert set(defined) == used - grafanas, f"{name}: defined {sorted(defined)}, used {sorted(used - grafanas)}"
