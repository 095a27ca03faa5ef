// A board's own page.
import { ask, byId, change, follow, keep, lasting, make, makeCell, matches, pill, put, quantity, say, sparkline, useToken } from "./shared.js";
import { Chart, Columns } from "./chart.js";

/** The columns of each rail by its series, and of the board by TOTAL. */
const known = new Map();
const TOTAL = "";
const POINTS = 60;
const waiting = new Set();
const chart = new Chart(byId("chart"), showReadout);
/** What the chart shows. */
let chosen = TOTAL;
let cursor = "";
let round = 0;
let loaded = "";
let metrics = {};
let values = {};
let sources = [];

const time = (stamp) => new Date(stamp).toLocaleString();

function showHistory(answer) {
  cursor = answer.cursor;
  const { total, rails } = answer;
  put(byId("watts"), quantity(total?.watts, "W"));
  put(byId("joules"), quantity(total?.joules, "J"));
  put(byId("joules-title"), total?.seconds ? `Energy in the last ${lasting(total.seconds)}` : "Energy");
  const why = answer.no_total ?? "";
  say(byId("no-total"), why && `${why[0].toUpperCase()}${why.slice(1)}.${rails.length ? " The measured rails are below." : ""}`);
  const notes = [];
  if (!rails.length) notes.push("No rail is read. The sources below say why.");
  else if (!answer.kept_seconds) notes.push("There are no charts, because no history is kept (history: {seconds: 0}).");
  if (answer.left_out) notes.push(`${answer.left_out} more rails are not shown.`);
  say(byId("rails-note"), notes.join(" "));
  byId("power").hidden = !rails.length;
  const all = rails.map((rail) => [rail.series, rail]);
  if (total?.columns) all.push([TOTAL, total]);
  for (const [series, one] of all) {
    if (!known.has(series)) known.set(series, new Columns());
    known.get(series).add(one.columns, answer, one.longest_gap);
  }
  for (const series of known.keys()) if (!all.some(([one]) => one === series)) known.delete(series);
  keep(byId("rails"), rails, (rail) => rail.series, makeRail, showRail);
  showChart(total, rails);
}

/** Of the chosen rail, the total, or the first rail. */
function showChart(total, rails) {
  const rail = rails.find(({ series }) => series === chosen);
  const one = rail ?? total ?? rails[0];
  const series = rail || !total ? one?.series : TOTAL;
  const of = known.get(series);
  byId("total").hidden = !of?.columns.length;
  if (byId("total").hidden) return;
  const name = one === total ? "Total" : (one.rail ?? one.source);
  put(byId("total-name"), `${name} (${one.source})`);
  chart.show(of);
  const [low, high] = of.range();
  const range = `${quantity(low, "W")} to ${quantity(high, "W")}`;
  byId("chart").setAttribute("aria-label", `${name}, of ${one.source}: ${quantity(one.watts, "W")} now, ${range} in the last minutes`);
  for (const row of byId("rails").children) row.querySelector("button").setAttribute("aria-pressed", String(row.dataset.key === series));
}

function showReadout(column, ago) {
  const when = ago === null ? "" : ago < 1 ? "now" : `${lasting(ago)} ago`;
  const [, low, high, mean] = (column ?? []).map((value) => quantity(value, "W"));
  const text = column ? `${when}: ${mean} (${low} to ${high})` : when && `${when}: no reading`;
  put(byId("readout"), text);
  byId("chart").setAttribute("aria-valuenow", String(ago === null ? 0 : -Math.round(ago)));
  byId("chart").setAttribute("aria-valuetext", text || "no value is selected");
}

function showWorkloads(shown) {
  const off = sources.includes("workloads")
    ? "No workload has been read yet, or no meter measures energy that can be attributed."
    : "Set workloads: {enabled: true} in the configuration to attribute power to services, containers and pods.";
  say(byId("workloads-note"), shown ? "" : off);
  byId("workloads-table").hidden = !shown;
  put(byId("workloads-what"), shown ? `of ${shown.domain === "board" ? "the board" : shown.domain}, ${quantity(shown.watts, "W")}` : "");
  const rows = shown ? shown.workloads.map((one) => ({ ...one, key: JSON.stringify([one.kind, one.name]) })) : [];
  if (shown?.more) rows.push({ key: "more", name: `${shown.more} more`, watts: shown.more_watts });
  if (typeof shown?.unattributed_watts === "number") rows.push({ key: "unattributed", name: "unattributed: above idle, without a known process", watts: shown.unattributed_watts });
  if (shown) rows.push({ key: "idle", name: "idle", watts: shown.idle_watts });
  keep(byId("workloads"), rows, (row) => row.key, makeWorkload, (element, row) => {
    const part = shown.watts > 0 ? `${((100 * row.watts) / shown.watts).toFixed(1)}\u00a0%` : "–";
    const texts = [row.name, row.kind ?? "", quantity(row.watts, "W"), part];
    texts.forEach((text, place) => put(element.children[place], text));
  });
}

function makeWorkload() {
  const name = make("th");
  name.scope = "row";
  return make("tr", "", name, ...[["Kind"], ["Power", "number"], ["Share", "number"]].map(makeCell));
}

const RAIL_CELLS = [["Source"], ["Now", "number"], ["Last minutes", "curve"], ["From, to", "number quiet"], ["Energy since start", "number quiet"]];

function makeRail({ series }) {
  const button = make("button", "tag");
  button.type = "button";
  button.title = series;
  button.addEventListener("click", () => (chosen = chosen === series ? TOTAL : series));
  const name = make("th", "", button);
  name.scope = "row";
  return make("tr", "", name, ...RAIL_CELLS.map(makeCell));
}

function showRail(element, rail) {
  const of = known.get(rail.series);
  const range = of.range();
  const [name, source, now, curve, between, energy] = element.children;
  put(name.firstElementChild, rail.rail ?? rail.source);
  put(source, rail.source);
  put(now, typeof rail.watts === "number" ? quantity(rail.watts, "W") : "not read");
  sparkline(curve, of.points(POINTS), (of.most * of.seconds) / POINTS);
  put(between, range ? `${quantity(range[0], "W")} to ${quantity(range[1], "W")}` : "");
  put(energy, typeof rail.joules === "number" ? quantity(rail.joules, "J") : "");
}

const OTHERS = [
  ["Temperature", /_celsius$|_temp_/],
  ["Load", /usage_percent$|utilization_ratio$|_active_cores$|throttled$|under_voltage$/],
  ["Memory", /memory|_ram_|_swap_/],
];

/** A value in the unit that its metric's name ends in. */
function valued(name, value) {
  if (typeof value !== "number") return "–";
  const last = name.replace(/_total$/, "").split("_").at(-1);
  const unit = { watts: "W", joules: "J", volts: "V", amperes: "A", bytes: "B", coulombs: "C" }[last];
  if (unit) return quantity(value, unit);
  if (last === "ratio") return `${(100 * value).toFixed(0)}\u00a0%`;
  const plain = { celsius: "°C", percent: "%", seconds: "s", mhz: "MHz", mb: "MB", kb: "kB" }[last];
  return [+value.toPrecision(4), plain].filter((part) => part !== undefined).join("\u00a0");
}

function showOthers() {
  const cards = OTHERS.map(([title, wanted]) => {
    const names = Object.keys(values).filter((name) => wanted.test(name) && !/^(power_|workload_|nvidia_gpu_info)/.test(name));
    const rows = names.flatMap((name) => values[name].series.map(({ labels: { source, ...labels }, value }) => [name, Object.values(labels).join(" "), value]));
    return { title, rows: rows.slice(0, 16), more: rows.length - 16 };
  }).filter(({ rows }) => rows.length);
  const makeCard = ({ title }) => make("section", "card", make("h2", "", title), make("dl", "pairs"), make("p", "quiet small"));
  keep(byId("kinds"), cards, ({ title }) => title, makeCard, (element, { rows, more }) => {
    keep(element.children[1], rows, ([name, label]) => `${name} ${label}`, () => make("div", "", make("dt"), make("dd")), (pair, [name, label, value]) => {
      put(pair.firstElementChild, label || name);
      put(pair.lastElementChild, valued(name, value));
      pair.title = values[name].help;
    });
    put(element.lastElementChild, more > 0 ? `${more} more in the metrics below` : "");
  });
}

function showNoPower(no) {
  byId("no-power").hidden = !no;
  byId("power").parentElement.hidden = !!no;
  if (!no) return;
  put(byId("no-power-help"), no.help);
  keep(byId("looked-for"), no.looked_for, ({ source }) => source, () => make("li"), (element, { source, missing }) => put(element, `${source}: ${missing}`));
}

const KINDS = { healthy: "good", degraded: "bad", starting: "warn" };

function showHealth(health) {
  sources = health.sources.map((source) => source.source);
  put(byId("name"), health.device_id || "This board");
  document.title = `${health.device_id || "board"} · edge-metrics-exporter`;
  put(byId("what"), health.device_type);
  const nothing = health.no_power && health.status === "healthy";
  pill(byId("state"), nothing ? "no power is measured" : health.status, nothing ? "warn" : KINDS[health.status] ?? "");
  showNoPower(health.no_power);
  put(byId("about"), `edge-metrics-exporter ${health.version}, running for ${lasting(health.uptime_seconds)}`);
  const name = (source) => (source.device ? `${source.source} ${source.device}` : source.source);
  keep(byId("sources"), health.sources, name, makeSource, showSource);
  if (!health.sources.length) put(byId("sources").appendChild(make("li")), "No source was found on this board, and no source is configured.");
  showConfiguration(health.config);
}

function makeSource(source) {
  const name = make("span", "", make("b", "", source.source));
  if (source.device) name.append(" ", make("span", "quiet", source.device));
  return make("li", "", make("div", "line", name, make("span", "pill")), make("div"));
}

function showSource(element, { up, error, complaints }) {
  const trouble = !up ? "not read" : complaints.length ? "partly read" : "read";
  pill(element.querySelector(".pill"), trouble, { "not read": "bad", "partly read": "warn", read: "good" }[trouble]);
  const all = [...(error ? [error] : []), ...complaints];
  keep(element.lastElementChild, all, (text) => text, () => make("div", "why"), showError);
}

/** An error ends with what would help, in parentheses. */
function showError(element, text) {
  if (element.childElementCount) return;
  const [, what, help] = /^(.*?) \((.*)\)$/s.exec(text) ?? [null, text, ""];
  element.append(make("div", "", what));
  if (help) element.append(make("div", "help", help));
}

function showConfiguration(config) {
  const from = { file: "File", preset: "Built-in preset", defaults: "Defaults, because there is no configuration file" }[config.source] ?? config.source;
  const facts = [
    ["from", `${[from, config.path].filter(Boolean).join(" ")}. Loaded at ${time(config.loaded_at)}.`, "in force", "good"],
    config.saved
      ? ["saved", "All changes are saved.", "saved", "good"]
      : ["saved", `Changes are not saved and will be lost at the next reload or restart: ${config.not_saved_because}`, "not saved", "warn"],
  ];
  if (config.error) facts.push(["error", `A new configuration was refused at ${time(config.error_at)}, and this one remains in force: ${config.error}`, "refused", "bad"]);
  keep(byId("config-facts"), facts, ([key]) => key, () => make("li", "", make("div", "line", make("span"), make("span", "pill"))), (element, [, text, word, kind]) => {
    put(element.querySelector("span"), text);
    pill(element.querySelector(".pill"), word, kind);
  });
}

function showMetrics() {
  const search = byId("search").value.trim();
  const names = Object.keys(metrics);
  const found = names.filter((name) => matches(name, search));
  keep(byId("metrics"), found, (name) => name, makeSwitch, (element, name) => {
    const box = element.querySelector("input");
    if (!waiting.has(name)) box.checked = metrics[name];
    const { series = [], more = 0 } = values[name] ?? {};
    const shown = series.slice(0, 2).map(({ value }) => valued(name, value));
    const others = series.length - shown.length + more;
    put(element.querySelector(".value"), shown.join(", ") + (others > 0 ? ` and ${others} more` : ""));
    element.title = values[name]?.help ?? "";
  });
  const on = names.filter((name) => metrics[name]).length;
  const shown = search ? `${found.length} of ${names.length} found` : `${on} of ${names.length} exported`;
  put(byId("metrics-count"), shown);
}

function makeSwitch(name) {
  const box = make("input");
  box.type = "checkbox";
  box.setAttribute("role", "switch");
  box.setAttribute("aria-label", name);
  box.addEventListener("change", () => toggle(name, box));
  return make("li", "", make("label", "", box, make("span", "name", name), make("span", "value quiet")));
}

async function toggle(name, box) {
  const on = box.checked;
  waiting.add(name);
  box.setAttribute("aria-busy", "true");
  const note = byId("metrics-note");
  try {
    const answer = await change("/metrics/enable", { method: "POST", body: JSON.stringify({ [name]: on }) });
    metrics[name] = on;
    const done = `${name} is ${on ? "exported" : "no longer exported"}.`;
    if (answer.saved === false) say(note, `${done} ${answer.message}`, "warn");
    else say(note, `${done} Saved.`, "good");
  } catch (error) {
    box.checked = metrics[name];
    say(note, `${name} was not switched. ${error.message}`, "bad");
  }
  box.removeAttribute("aria-busy");
  waiting.delete(name);
  showMetrics();
}

async function reload() {
  const button = byId("reload");
  const note = byId("reload-note");
  button.disabled = true;
  put(note, "…");
  try {
    await change("/reload", { method: "POST" });
    put(note, `Reloaded at ${new Date().toLocaleTimeString()}.`);
  } catch (error) {
    put(note, error.message);
  }
  button.disabled = false;
}

useToken(() => say(byId("metrics-note"), ""));
byId("search").addEventListener("input", showMetrics);
byId("reload").addEventListener("click", reload);

follow(async (again) => {
  const history = await ask(`/history?since=${encodeURIComponent(cursor)}`);
  showHistory(history);
  // How it is changes less often than what it draws.
  if (round++ % 3 && !again) return showWorkloads(history.workloads);
  const health = await ask("/health");
  showHealth(health);
  showWorkloads(history.workloads);
  ({ metrics, values = {} } = await ask("/metrics/list?values"));
  showMetrics();
  showOthers();
  const of = JSON.stringify([health.config.loaded_at, metrics]);
  if (of !== loaded) {
    put(byId("config"), JSON.stringify(await ask("/config"), null, 2));
    loaded = of;
  }
}, 1000, "The board");
