// The config-server's page: all boards.
import { ask, byId, follow, keep, lasting, make, matches, pill, put } from "./shared.js";

let devices = [];

/** Words and colour of a state. */
const STATES = {
  healthy: ["healthy", "good"],
  unhealthy: ["refused", "bad"],
  unreachable: ["silent", "bad"],
  unknown: ["never heard of", "warn"],
};
const state = (device) => STATES[device.status] ?? [device.status, "warn"];
const rank = (device) => ["unhealthy", "unreachable", "unknown", "healthy"].indexOf(device.status);
const all = (device) => [device.device_id, device.hostname, device.device_type, device.ip_address, state(device)[0], device.error].filter(Boolean).join(" ");

function show() {
  const search = byId("search").value.trim();
  const troubled = byId("troubled").checked;
  const found = devices.filter((device) => matches(all(device), search) && !(troubled && device.status === "healthy"));
  const rows = found.flatMap((device) => (device.error ? [{ device }, { device, error: device.error }] : [{ device }]));
  const key = ({ device, error }) => `${error ? "why" : "row"} ${device.device_id}`;
  keep(byId("boards"), rows, key, makeRow, showRow);
  const words = devices.length ? `${found.length} of ${devices.length} shown` : "No board is registered yet: PUT its configuration to /config/NAME.";
  put(byId("boards-count"), words);
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

function showCounts() {
  const counts = [["Boards", devices.length], ["healthy", "healthy"], ["refused", "unhealthy"], ["silent", "unreachable"], ["never heard of", "unknown"]];
  keep(byId("counts"), counts, ([name]) => name, ([name]) => make("div", "", make("dt", "", name), make("dd", "big")), (element, [, of]) => {
    const count = typeof of === "number" ? of : devices.filter((device) => device.status === of).length;
    put(element.lastElementChild, String(count));
  });
  const bad = devices.filter((device) => device.status !== "healthy").length;
  pill(byId("state"), bad ? `${bad} to look at` : "all well", bad ? "warn" : "good");
}

byId("search").addEventListener("input", show);
byId("troubled").addEventListener("change", show);

follow(async () => {
  const [answer, health] = [await ask("/devices"), await ask("/health")];
  devices = answer.devices.sort((a, b) => rank(a) - rank(b) || a.device_id.localeCompare(b.device_id));
  put(byId("what"), `Configurations in ${health.store}`);
  put(byId("about"), `edge-metrics-exporter config-server ${health.version}`);
  showCounts();
  show();
}, 3000, "The config-server");
