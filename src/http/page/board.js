// A board's own page.
import { ask, byId, follow, keep, lasting, make, matches, pill, put, quantity, say } from "./shared.js";
import { Chart } from "./chart.js";

const charts = new Map();
const waiting = new Set();
let cursor = "";
let round = 0;
let loaded = "";
let metrics = {};
let sources = [];
/** For those boards that want one; forgotten with the page. */
let token = "";

/** The answer to something that is done. */
async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  try {
    return await ask(path, { method: "POST", headers, body });
  } catch (error) {
    if (error.status === 401) byId("token-form").hidden = false;
    throw error;
  }
}

const time = (stamp) => new Date(stamp).toLocaleString();

function showHistory(answer) {
  cursor = answer.cursor;
  const { total } = answer;
  put(byId("watts"), quantity(total?.watts, "W"));
  put(byId("joules"), quantity(total?.joules, "J"));
  put(byId("joules-title"), total?.seconds ? `Energy in the last ${lasting(total.seconds)}` : "Energy");
  const why = answer.no_total ?? "";
  say(byId("no-total"), why && `${why[0].toUpperCase()}${why.slice(1)}.${answer.rails.length ? " Below is what is measured." : ""}`);
  const notes = [];
  if (!answer.rails.length) notes.push("Nothing that measures power has been read yet. What each source says is below.");
  else if (!answer.kept_seconds) notes.push("No history is kept (history: {seconds: 0}), so there are no charts.");
  if (answer.left_out) notes.push(`${answer.left_out} more rails are not shown.`);
  say(byId("rails-note"), notes.join(" "));
  keep(byId("rails"), answer.rails, (rail) => rail.series, card, showRail.bind(null, answer));
  for (const series of charts.keys()) if (!answer.rails.some((rail) => rail.series === series)) charts.delete(series);
}

function showWorkloads(shown) {
  const off = sources.includes("workloads")
    ? "No workload has been read yet, or nothing is measured whose energy they could have."
    : "Which services, containers and pods draw it is not asked: workloads: {enabled: true} in the configuration has the power divided among them.";
  say(byId("workloads-note"), shown ? "" : off);
  byId("workloads-table").hidden = !shown;
  put(byId("workloads-what"), shown ? `of what ${shown.domain === "board" ? "the board" : shown.domain} draws, ${quantity(shown.watts, "W")}` : "");
  const rows = shown ? shown.workloads.map((one) => ({ ...one, key: JSON.stringify([one.kind, one.name]) })) : [];
  if (shown?.more) rows.push({ key: "more", name: `${shown.more} more`, watts: shown.more_watts });
  if (typeof shown?.unattributed_watts === "number") rows.push({ key: "unattributed", name: "unattributed: above idle, and no process is known for it", watts: shown.unattributed_watts });
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
  const cells = ["Kind", "Power", "Share"].map((text) => {
    const cell = make("td");
    cell.dataset.name = text;
    return cell;
  });
  return make("tr", "", name, ...cells);
}

function card(rail) {
  const canvas = make("canvas");
  canvas.setAttribute("role", "img");
  charts.set(rail.series, new Chart(canvas));
  const who = make("span", "who", make("b", "", rail.rail ?? rail.source), " ", make("span", "quiet", rail.source));
  const caption = make("figcaption", "", who, make("span", "value"), make("span", "more quiet"));
  const made = make("figure", "card", caption, canvas);
  made.title = rail.series;
  return made;
}

function showRail(answer, element, rail) {
  const chart = charts.get(rail.series);
  chart.add(rail.columns, answer, rail.longest_gap);
  const range = chart.range();
  const between = range ? `${quantity(range[0], "W")} to ${quantity(range[1], "W")}` : "";
  const now = quantity(rail.watts, "W");
  put(element.querySelector(".value"), now);
  const joules = typeof rail.joules === "number" ? `${quantity(rail.joules, "J")} since start` : "";
  put(element.querySelector(".more"), [between, joules].filter(Boolean).join(" · ") || "not read");
  const canvas = element.querySelector("canvas");
  canvas.setAttribute("aria-label", `${rail.rail ?? rail.source}: ${now} now, ${between || "nothing read"} in the last minutes`);
}

const KINDS = { healthy: "good", degraded: "bad", starting: "warn" };

function showHealth(health) {
  sources = health.sources.map((source) => source.source);
  put(byId("name"), health.device_id || "This board");
  document.title = `${health.device_id || "board"} · edge-metrics-exporter`;
  put(byId("what"), health.device_type);
  pill(byId("state"), health.status, KINDS[health.status] ?? "");
  put(byId("about"), `edge-metrics-exporter ${health.version}, running for ${lasting(health.uptime_seconds)}`);
  const name = (source) => (source.device ? `${source.source} ${source.device}` : source.source);
  keep(byId("sources"), health.sources, name, makeSource, showSource);
  if (!health.sources.length) put(byId("sources").appendChild(make("li")), "No source was found on this board, and none is configured.");
  showConfiguration(health.config);
}

function makeSource(source) {
  const name = make("span", "", make("b", "", source.source));
  if (source.device) name.append(" ", make("span", "quiet", source.device));
  return make("li", "", make("div", "line", name, make("span", "pill")), make("div"));
}

function showSource(element, { up, error, complaints }) {
  const trouble = !up ? "not read" : complaints.length ? "in part" : "read";
  pill(element.querySelector(".pill"), trouble, { "not read": "bad", "in part": "warn", read: "good" }[trouble]);
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
  const from = { file: "The file", preset: "The built-in preset", defaults: "The defaults: no file was given" }[config.source] ?? config.source;
  const facts = [
    ["from", `${[from, config.path].filter(Boolean).join(" ")}. Loaded at ${time(config.loaded_at)}.`, "in force", "good"],
    config.saved
      ? ["saved", "All settings that hold are saved.", "saved", "good"]
      : ["saved", `Settings that hold are not saved, and gone at the next reload or restart: ${config.not_saved_because}`, "not saved", "warn"],
  ];
  if (config.error) facts.push(["error", `Another configuration was refused at ${time(config.error_at)}, and this one kept: ${config.error}`, "refused", "bad"]);
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
  });
  const on = names.filter((name) => metrics[name]).length;
  const shown = search ? `${found.length} of ${names.length} found` : `${on} of ${names.length} exported`;
  put(byId("metrics-count"), shown);
}

function makeSwitch(name) {
  const box = make("input");
  box.type = "checkbox";
  box.setAttribute("role", "switch");
  box.addEventListener("change", () => toggle(name, box));
  return make("li", "", make("label", "", box, make("span", "", name)));
}

async function toggle(name, box) {
  const on = box.checked;
  waiting.add(name);
  box.setAttribute("aria-busy", "true");
  const note = byId("metrics-note");
  try {
    const answer = await post("/metrics/enable", JSON.stringify({ [name]: on }));
    metrics[name] = on;
    const done = `${name} is ${on ? "exported" : "no longer exported"}.`;
    if (answer.saved === false) say(note, `${done} But ${answer.message}`, "warn");
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
    await post("/reload");
    put(note, `Loaded again at ${new Date().toLocaleTimeString()}.`);
  } catch (error) {
    put(note, error.message);
  }
  button.disabled = false;
}

byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token-form").hidden = true;
  say(byId("metrics-note"), "");
});
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
  metrics = (await ask("/metrics/list")).metrics;
  showMetrics();
  const of = JSON.stringify([health.config.loaded_at, metrics]);
  if (of !== loaded) {
    put(byId("config"), JSON.stringify(await ask("/config"), null, 2));
    loaded = of;
  }
}, 1000, "The board");
