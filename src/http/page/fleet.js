// The config-server's page: all boards, a page of them at a time. The server searches, sorts and sums: there may be tens of thousands.
import { ask, byId, change, follow, keep, lasting, make, makeCell, pill, put, quantity, say, sparkline, useToken } from "./shared.js";

const LIMIT = 100;
/** The groups are asked for every so many rounds. */
const GROUP_ROUNDS = 10;
let devices = [];
let answered = {};
/** After which board each page so far begins, the one that is shown last; and after which the next one would. */
let pages = [""];
let next = null;
let round = 0;
/** The board that is edited, and the tag of what was read. */
let edited = { id: "", tag: "" };
/** What was checked for many boards, and may be applied. */
let checked = "";
let cannotChangeMany = false;

const COLOURS = { healthy: "good", degraded: "warn", unhealthy: "bad", unreachable: "bad" };
const MEANING = {
  healthy: "The board has requested and accepted its configuration.",
  degraded: "The board runs, but a source cannot be read.",
  unhealthy: "The board refused its configuration, or the configuration is invalid.",
  unreachable: "The board could not be notified of a change, or has missed its polls.",
  unknown: "The board has never contacted this server.",
};

function show() {
  const rows = devices.flatMap((device) => (device.error ? [{ device }, { device, error: device.error }] : [{ device }]));
  const key = ({ device, error }) => `${error ? "why" : "row"} ${device.device_id}`;
  keep(byId("boards"), rows, key, makeRow, showRow);
  const { total, found } = answered;
  const first = (pages.length - 1) * LIMIT;
  const which = devices.length < found ? `${first + 1} to ${first + devices.length} of ` : "";
  const all = found === total ? `${total} boards` : `${found} of ${total} boards match`;
  put(byId("boards-count"), total ? `${devices.length ? which : ""}${all}` : "No board is registered yet. PUT the configuration of a board to /config/NAME.");
  byId("boards").parentElement.hidden = !devices.length;
  byId("many").hidden = !total || cannotChangeMany;
  byId("previous").disabled = pages.length < 2;
  byId("next").disabled = !next;
  for (const head of document.querySelectorAll("th[data-sort]")) {
    const is = head.dataset.sort === byId("sort").value;
    if (is) head.setAttribute("aria-sort", ["name"].includes(head.dataset.sort) ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
}

/** What is asked for: a page, of those alone that are searched for. */
function query() {
  const asked = new URLSearchParams({ limit: LIMIT, sort: byId("sort").value });
  const add = (name, text) => text && asked.append(name, text);
  add("after", pages.at(-1));
  add("search", byId("search").value.trim());
  add("group", byId("group").value);
  for (const label of byId("label").value.split(/[\s,]+/)) if (/^[^=]+=/.test(label)) add("label", label);
  if (byId("troubled").checked) add("status", "unhealthy,unreachable,degraded,unknown");
  return asked;
}

async function load() {
  const asked = query().toString();
  const answer = await ask(`/devices?${asked}`);
  // Something else is wanted by now.
  if (asked !== query().toString()) return;
  ({ devices } = answer);
  answered = answer;
  next = answer.next ?? null;
  showSums(answer);
  show();
}

async function loadGroups() {
  const { groups } = await ask("/groups");
  const names = ["", ...groups.map(({ name }) => name)];
  keep(byId("group"), names, (name) => `group ${name}`, (name) => new Option(name || "any", name), () => {});
}

function showSums(answer) {
  const of = answer.boards_with_power;
  put(byId("watts"), quantity(answer.power_watts, "W"));
  put(byId("watts-of"), of ? `reported by ${of} ${of === 1 ? "board" : "boards"}` : "No board has reported its power.");
  put(byId("joules"), quantity(answer.energy_day_joules, "J"));
  put(byId("joules-of"), answer.energy_day_joules === undefined ? "" : quantity(answer.energy_day_joules / 3600, "Wh"));
  const names = ["total", "healthy", "degraded", "unhealthy", "unknown"];
  const words = { total: "boards", unhealthy: "unhealthy or unreachable" };
  keep(byId("counts"), names, (name) => name, (name) => make("div", "", make("dt", "", words[name] ?? name), make("dd")), (element, name) => {
    put(element.lastElementChild, String(answer[name]));
    element.title = MEANING[name] ?? "";
  });
  const bad = answer.total - answer.healthy;
  const word = answer.total ? (bad ? `${bad} not healthy` : "all healthy") : "";
  pill(byId("state"), word, bad ? "warn" : "good");
}

const CELLS = [["State"], ["Power", "number"], ["Energy, 24 h", "number"], ["Last day", "curve"], ["Groups and labels"], ["Seen", "acts"], ["Actions", "acts"]];

function makeRow({ device, error }) {
  if (error) {
    const why = make("td");
    why.colSpan = CELLS.length + 1;
    return make("tr", "error", why);
  }
  const name = make("th", "", make("a"), make("span", "quiet small"));
  name.scope = "row";
  const cells = CELLS.map(makeCell);
  cells[0].append(make("span", "pill"));
  for (const [word, act] of [["Reload", reload], ["Edit", edit]]) {
    const button = make("button", "small", word);
    button.type = "button";
    button.setAttribute("aria-label", `${word} ${device.device_id}`);
    button.addEventListener("click", () => act(device.device_id, button));
    cells.at(-1).append(button, " ");
  }
  return make("tr", "", name, ...cells);
}

function showRow(element, { device, error }) {
  if (error) return void put(element.firstElementChild, error);
  const [name, status, power, energy, curve, tags, heard] = element.children;
  showName(name, device);
  pill(status.firstElementChild, device.status, COLOURS[device.status] ?? "").title = MEANING[device.status] ?? "";
  put(power, quantity(device.power_watts, "W"));
  put(energy, quantity(device.energy_day_joules, "J"));
  sparkline(curve, device.power_history ?? [], device.power_history_seconds);
  const labels = Object.entries(device.labels).map(([name, value]) => `${name}=${value}`);
  const all = [...device.groups.map((group) => ["group", group]), ...labels.map((label) => ["label", label])];
  keep(tags, all, ([kind, text]) => `${kind} ${text}`, makeTag, () => {});
  const seconds = (Date.now() - Date.parse(device.last_seen)) / 1000;
  put(heard, device.last_seen ? `${lasting(seconds)}\u00a0ago` : "never");
  heard.title = device.last_seen ?? "";
}

/** A group or label, which filters by itself. */
function makeTag([kind, text]) {
  const tag = make("button", `tag ${kind}`, text);
  tag.type = "button";
  tag.title = `only boards of this ${kind}`;
  tag.addEventListener("click", () => {
    byId(kind).value = text;
    turn([""]);
  });
  return tag;
}

/** The name, which leads to the board's own page. */
function showName(element, device) {
  const host = device.ip_address.includes(":") ? `[${device.ip_address}]` : device.ip_address;
  const to = device.reload_port ? `${device.scheme}://${host}:${device.reload_port}/` : "";
  const [link, more] = element.children;
  put(link, device.hostname === device.device_id ? device.device_id : `${device.device_id} (${device.hostname})`);
  if (URL.canParse(to)) link.href = to;
  else link.removeAttribute("href");
  put(more, [device.device_type, device.address_from === "name" ? "" : device.ip_address, device.version].filter(Boolean).join(" · "));
  for (const label of Object.entries(device.labels)) addLabel(label.join("="));
}

/** Labels that were seen are proposed. */
function addLabel(label) {
  const known = byId("labels").children;
  if (known.length < 200 && ![...known].some((option) => option.value === label)) byId("labels").append(new Option(label, label));
}

async function reload(id, button) {
  button.disabled = true;
  try {
    await change(`/devices/${id}/reload`, { method: "POST" });
    say(byId("note"), `${id} has reloaded its configuration.`, "good");
  } catch (error) {
    say(byId("note"), `${id} was not reloaded. ${error.message}`, "bad");
  }
  button.disabled = false;
}

async function edit(id) {
  const dialog = byId("editor");
  try {
    const { value, tag } = await ask(`/config/${id}?own`, { whole: true });
    edited = { id, tag };
    byId("document").value = JSON.stringify(value, null, 2);
    put(byId("editor-title"), `Configuration of ${id}`);
    say(byId("editor-note"), "");
    dialog.showModal();
    byId("document").focus();
  } catch (error) {
    say(byId("note"), `The configuration of ${id} cannot be edited here. ${error.message}`, "bad");
  }
}

async function store(dry) {
  const note = byId("editor-note");
  const { id, tag } = edited;
  try {
    const headers = { "If-Match": tag };
    const answer = await change(`/config/${id}${dry ? "?dry_run" : ""}`, { method: "PUT", headers, body: byId("document").value });
    const warnings = (answer.warnings ?? []).map((text) => ` Warning: ${text}`).join("");
    if (dry) say(note, `${answer.changed ? "The document is valid and differs from the stored one." : "The document is valid and equals the stored one."}${warnings}`, warnings ? "warn" : "good");
    else {
      byId("editor").close();
      const told = answer.reload_triggered ? "The board is notified." : "The board loads it with its next request.";
      say(byId("note"), `The configuration of ${id} is stored. ${told}${warnings}`, warnings ? "warn" : "good");
    }
  } catch (error) {
    say(note, error.status === 412 ? "Somebody else has changed the document meanwhile. Close this dialog and edit it again." : error.message, "bad");
  }
}

/** Says several lines. */
function fill(element, lines, kind) {
  element.replaceChildren(...lines.map((line) => make("p", "", line)));
  element.hidden = false;
  element.className = `banner ${kind}`;
}

/** What the change of many boards is asked for by, and what is changed. */
const many = () => [encodeURIComponent(byId("selector").value.trim()), byId("patch").value];

async function changeMany(dry) {
  const note = byId("many-note");
  const [selector, body] = many();
  byId("many-apply").disabled = true;
  try {
    const answer = await change(`/config?selector=${selector}${dry ? "&dry_run" : ""}`, { method: "PATCH", body });
    const { boards, changed = [], invalid = [] } = answer;
    const count = answer.changed_total ?? changed.length;
    const names = changed.length ? `: ${changed.slice(0, 20).join(", ")}${count > 20 ? ", …" : ""}` : "";
    const words = dry ? `${boards} boards are selected, ${count} would change${names}.` : `${boards} boards were selected, ${count} have changed${names}.`;
    const refused = invalid.map(({ device_id, error }) => `${device_id}: ${error}`);
    fill(note, [words, ...refused], refused.length ? "bad" : "good");
    checked = dry && !refused.length ? many().join() : "";
    byId("many-apply").disabled = !checked;
  } catch (error) {
    cannotChangeMany = [404, 405].includes(error.status);
    byId("many").hidden = cannotChangeMany;
    const refused = (error.value?.invalid ?? error.value?.refused?.boards ?? []).map?.((one) => `${one.device_id}: ${one.error ?? one.message}`);
    fill(note, [error.message, ...(refused ?? [])], "bad");
    if (cannotChangeMany) say(byId("note"), "This server cannot change many boards at once.", "warn");
  }
}

/** The terms that select what is filtered. */
function filtered() {
  const labels = byId("label").value.split(/[\s,]+/).filter((label) => /^[^=]+=/.test(label));
  return [byId("group").value && `group=${byId("group").value}`, ...labels.map((label) => `label.${label}`)].filter(Boolean).join(",") || "*";
}

function switchMetric(on) {
  const metric = byId("metric").value.trim();
  if (metric) byId("patch").value = JSON.stringify({ metrics: { [metric]: on } }, null, 2);
}

/** Another page, or other boards. */
let typing = 0;
function turn(to, wait = 0) {
  pages = to;
  clearTimeout(typing);
  typing = setTimeout(() => load().catch(console.warn), wait);
}
const on = (id, event, act) => byId(id).addEventListener(event, act);
for (const id of ["search", "label"]) on(id, "input", () => turn([""], 200));
for (const id of ["group", "sort", "troubled"]) on(id, "change", () => turn([""]));
for (const head of document.querySelectorAll("th[data-sort]"))
  head.firstElementChild.addEventListener("click", () => {
    byId("sort").value = head.dataset.sort;
    turn([""]);
  });
on("previous", "click", () => turn(pages.slice(0, -1)));
on("next", "click", () => next && turn([...pages, next]));
on("editor-check", "click", () => store(true));
on("editor-close", "click", () => byId("editor").close());
on("editor-form", "submit", (event) => {
  event.preventDefault();
  store(false);
});
on("selector-from", "click", () => (byId("selector").value = filtered()));
for (const button of document.querySelectorAll("[data-metric]")) button.addEventListener("click", () => switchMetric(button.dataset.metric === "true"));
on("many-form", "submit", (event) => {
  event.preventDefault();
  changeMany(true);
});
// Only what was checked is applied.
on("many-form", "input", () => (byId("many-apply").disabled = !checked || checked !== many().join()));
on("many-apply", "click", () => changeMany(false));
useToken();

follow(async () => {
  const health = await ask("/health");
  put(byId("what"), `Configurations in ${health.store}`);
  put(byId("about"), `edge-metrics-exporter config-server ${health.version}`);
  if (round++ % GROUP_ROUNDS === 0) await loadGroups();
  await load();
}, 3000, "The config-server");
