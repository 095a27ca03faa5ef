// The config-server's page: all boards, a page of them at a time. The server searches: there may be tens of thousands.
import { ask, byId, follow, keep, lasting, make, pill, put } from "./shared.js";

const LIMIT = 100;
let devices = [];
let total = 0;
/** After which board each page so far begins, the one that is shown last; and after which the next one would. */
let pages = [""];
let next = null;

/** Words and colour of a state. */
const STATES = {
  healthy: ["healthy", "good"],
  unhealthy: ["refused", "bad"],
  unreachable: ["silent", "bad"],
  degraded: ["degraded", "warn"],
  unknown: ["never heard of", "warn"],
};
const state = (device) => STATES[device.status] ?? [device.status, "warn"];

function show() {
  const rows = devices.flatMap((device) => (device.error ? [{ device }, { device, error: device.error }] : [{ device }]));
  const key = ({ device, error }) => `${error ? "why" : "row"} ${device.device_id}`;
  keep(byId("boards"), rows, key, makeRow, showRow);
  const which = pages.length > 1 || next ? `, page ${pages.length}` : "";
  put(byId("boards-count"), total ? `${devices.length} of ${total} shown${which}` : "No board is registered yet: PUT its configuration to /config/NAME.");
  byId("previous").disabled = pages.length < 2;
  byId("next").disabled = !next;
}

/** What is asked for: a page, of those alone that are searched for. */
function query() {
  const asked = new URLSearchParams({ limit: LIMIT });
  const search = byId("search").value.trim();
  if (pages.at(-1)) asked.set("after", pages.at(-1));
  if (search) asked.set("search", search);
  if (byId("troubled").checked) asked.set("status", "unhealthy,unreachable,degraded,unknown");
  return asked;
}

async function load() {
  const asked = query().toString();
  const answer = await ask(`/devices?${asked}`);
  // Something else is wanted by now.
  if (asked !== query().toString()) return;
  devices = answer.devices;
  total = answer.total;
  next = answer.next ?? null;
  showCounts(answer);
  show();
}

function cell(name) {
  const made = make("td");
  made.dataset.name = name;
  return made;
}

function makeRow({ error }) {
  if (error) {
    const why = make("td");
    why.colSpan = 6;
    return make("tr", "error", why);
  }
  const name = make("th");
  name.scope = "row";
  return make("tr", "", name, make("td", "", make("span", "pill")), ...["Type", "Address", "Last heard of", "Version"].map(cell));
}

function showRow(element, { device, error }) {
  if (error) return void put(element.firstElementChild, error);
  const [name, , type, address, heard, version] = element.children;
  showName(name, device);
  pill(element.querySelector(".pill"), ...state(device));
  put(type, device.device_type);
  put(address, device.address_from === "name" ? "" : device.ip_address);
  const seconds = (Date.now() - Date.parse(device.last_seen)) / 1000;
  put(heard, device.last_seen ? `${lasting(seconds)} ago` : "never");
  heard.title = device.last_seen ?? "";
  put(version, device.version ?? "");
}

/** The name, which leads to the board's own page. */
function showName(element, device) {
  const host = device.ip_address.includes(":") ? `[${device.ip_address}]` : device.ip_address;
  const to = device.reload_port ? `${device.scheme}://${host}:${device.reload_port}/` : "";
  if (element.dataset.to === to) return;
  element.dataset.to = to;
  const names = device.hostname === device.device_id ? device.device_id : `${device.device_id} (${device.hostname})`;
  const link = make("a", "", names);
  if (URL.canParse(to)) link.href = to;
  element.replaceChildren(link);
}

function showCounts(answer) {
  const names = [["Boards", "total"], ["healthy", "healthy"], ["degraded", "degraded"], ["refused or silent", "unhealthy"], ["never heard of", "unknown"]];
  keep(byId("counts"), names, ([name]) => name, ([name]) => make("div", "", make("dt", "", name), make("dd", "big")), (element, [, of]) => {
    put(element.lastElementChild, String(answer[of]));
  });
  const bad = total - answer.healthy;
  pill(byId("state"), bad ? `${bad} to look at` : "all well", bad ? "warn" : "good");
}

/** Another page, or other boards. */
let typing = 0;
function turn(to, wait = 0) {
  pages = to;
  clearTimeout(typing);
  typing = setTimeout(() => load().catch(console.warn), wait);
}
byId("search").addEventListener("input", () => turn([""], 200));
byId("troubled").addEventListener("change", () => turn([""]));
byId("previous").addEventListener("click", () => turn(pages.slice(0, -1)));
byId("next").addEventListener("click", () => next && turn([...pages, next]));

follow(async () => {
  const health = await ask("/health");
  put(byId("what"), `Configurations in ${health.store}`);
  put(byId("about"), `edge-metrics-exporter config-server ${health.version}`);
  await load();
}, 3000, "The config-server");
