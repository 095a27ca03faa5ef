// What both pages need. Whatever comes from outside is put into the page as text.

export const byId = (id) => document.getElementById(id);

/** An element of this class with these children, elements or text. */
export function make(tag, kind, ...children) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.append(...children);
  return made;
}

/** A cell with the name that it has where no heading is shown. */
export function makeCell([name, kind]) {
  const cell = make("td", kind);
  cell.dataset.name = name;
  return cell;
}

/** Sets an element's text. Leaves alone what is as it should be: somebody may be selecting it. */
export function put(element, text) {
  if (element.textContent !== text) element.textContent = text;
  return element;
}

export function say(element, text, kind = "") {
  put(element, text);
  element.hidden = !text;
  if (element.classList.contains("banner")) element.className = `banner ${kind}`;
}

export function pill(element, text, kind) {
  put(element, text).className = `pill ${kind}`;
  return element;
}

/** Draws values of equal intervals from 0 upwards; null: not known. */
export function sparkline(cell, values, seconds) {
  const of = values.join();
  if (cell.dataset.of === of) return;
  cell.dataset.of = of;
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return void cell.replaceChildren();
  const space = "http://www.w3.org/2000/svg";
  const [low, high] = [Math.min(0, ...known), Math.max(...known, 1e-9)];
  let way = "";
  let before = null;
  values.forEach((value, place) => {
    if (value !== null) way += `${before === null ? "M" : "L"}${place} ${(22 - (20 * (value - low)) / (high - low)).toFixed(1)}`;
    before = value;
  });
  const draw = (kind, all) => {
    const made = document.createElementNS(space, kind);
    for (const [name, value] of Object.entries(all)) made.setAttribute(name, value);
    return made;
  };
  cell.title = `${quantity(Math.min(...known), "W")} to ${quantity(Math.max(...known), "W")} in the last ${lasting(values.length * seconds)}`;
  const svg = draw("svg", { viewBox: `0 0 ${values.length - 1} 24`, preserveAspectRatio: "none", role: "img", "aria-label": cell.title });
  svg.append(draw("path", { d: way, "vector-effect": "non-scaling-stroke" }));
  cell.replaceChildren(svg);
}

/** An answer that is a refusal: its words. */
export class Refusal extends Error {}

/** The JSON at a path; with `whole`, it and its tag. Of a refusal its `error` and `message`. */
export async function ask(path, { whole, ...options } = {}) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(10000), ...options });
  const text = await answer.text();
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    if (answer.ok) value = text;
  }
  if (answer.ok) return whole ? { value, tag: answer.headers.get("ETag") } : value;
  const words = [value?.error, value?.message].filter(Boolean).join(": ");
  throw Object.assign(new Refusal(words || `${answer.status} ${answer.statusText}`), { status: answer.status, value });
}

/** Forgotten with the page. */
let token = "";

/** The answer to a request that changes something. */
export async function change(path, { headers = {}, ...options }) {
  const all = { "Content-Type": "application/json", ...headers };
  if (token) all.Authorization = `Bearer ${token}`;
  try {
    return await ask(path, { headers: all, ...options });
  } catch (error) {
    if (error.status === 401) byId("token-form").hidden = false;
    throw error;
  }
}

export function useToken(done = () => {}) {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    token = byId("token").value.trim();
    byId("token-form").hidden = true;
    done();
  });
}

/** Calls `task` again and again, `period` milliseconds after it is done, while the page is looked at. Says when the server is
 *  gone, and when it is back. */
export function follow(task, period, server) {
  let timer = 0;
  let busy = false;
  let goneAt = null;
  const clock = () => new Date().toLocaleTimeString();
  async function turn() {
    if (busy || document.hidden) return;
    clearTimeout(timer);
    busy = true;
    let wait = period;
    try {
      await task(goneAt !== null);
      if (goneAt) {
        say(byId("gone"), "");
        say(byId("back"), `${server} answers again since ${clock()}.`, "good");
        setTimeout(() => say(byId("back"), ""), 10000);
      }
      goneAt = null;
    } catch (error) {
      wait = Math.max(period, 2000);
      goneAt ??= clock();
      console.warn(error);
      const why = error instanceof Refusal ? `Its answer: ${error.message}.` : "It is off, restarting or unreachable.";
      say(byId("back"), "");
      say(byId("gone"), `No answer from ${server.toLowerCase()} since ${goneAt}. ${why} The values below are older. Trying again.`, "bad");
    }
    document.documentElement.dataset.link = goneAt ? "gone" : "up";
    busy = false;
    timer = setTimeout(turn, wait);
  }
  for (const [target, event] of [[document, "visibilitychange"], [window, "online"]]) target.addEventListener(event, turn);
  turn();
}

const digits = (value) => (value === 0 ? "0" : Math.abs(value) < 10 ? value.toFixed(2) : Math.abs(value) < 100 ? value.toFixed(1) : value.toFixed(0));

/** A number with its unit, in steps of a thousand. */
export function quantity(value, unit) {
  if (typeof value !== "number") return "–";
  const size = Math.abs(value);
  const [factor, prefix] =
    size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : size >= 1e3 ? [1e3, "k"] : size >= 1 || size < 1e-6 ? [1, ""] : [1e-3, "m"];
  return `${digits(value / factor)}\u00a0${prefix}${unit}`;
}

/** Seconds as people say them. */
export function lasting(seconds) {
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60]])
    if (seconds >= 2 * length) return `${Math.floor(seconds / length)}\u00a0${unit}`;
  return `${Math.max(0, Math.round(seconds))}\u00a0s`;
}

/** Whether all words of a search are in a text. */
export function matches(text, search) {
  const low = text.toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => low.includes(word));
}

/** Has `parent` hold one element per item, in their order: those that are there are kept, so that focus and selection last. */
export function keep(parent, items, key, create, update) {
  const before = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = key(item);
    let child = before.get(name);
    before.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
  for (const child of before.values()) child.remove();
}
