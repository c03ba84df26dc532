// The page as a whole: which view an address means, what it asks for and how often, and whether the answers still come.

import { h, patch } from "./dom.js";
import { duration, controllerAddress } from "./format.js";
import { controllerView, overview } from "./controllers.js";
import { informersView } from "./informers.js";
import { timelineView } from "./timeline.js";
import { empty } from "./parts.js";

const PERIOD = 1000;
const SLOWEST = 5000;
const DEADLINE = 10000;
const SAMPLES = 60;

const main = document.getElementById("main");
const state = {
  route: parse(location.hash),
  /** What the program is called. */
  program: null,
  /** The last answers to what the view asks for, by name. */
  answers: {},
  /** What the server said instead of an answer. */
  refusal: null,
  /** When the last answer came, and how many tries have failed since. */
  heard: null,
  failures: 0,
  paused: false,
  /** How many turns each controller had ended at the last polls. */
  history: new Map(),
};
let timer = null;
let asking = null;

function parse(hash) {
  const [path, query] = hash.replace(/^#/, "").split("?");
  const search = new URLSearchParams(query ?? "").get("search") ?? "";
  let parts;
  try {
    parts = path.split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    return { view: "nothing" };
  }
  if (parts.length === 0) return { view: "overview" };
  const [first, name, keys, key] = parts;
  if (first === "informers" && parts.length === 1) return { view: "informers" };
  if (first === "controllers" && parts.length === 1) return { view: "overview" };
  if (first === "controllers" && parts.length === 2) return { view: "controller", name, search };
  if (first === "controllers" && keys === "keys" && parts.length === 4) return { view: "timeline", name, key };
  return { view: "nothing" };
}

const VIEWS = { overview, controller: controllerView, timeline: timelineView, informers: informersView, nothing: nowhere };

/** What a view asks for, relative to the page. */
function asked({ view, name, search, key }) {
  const at = `api/controllers/${encodeURIComponent(name ?? "")}`;
  switch (view) {
    case "overview":
      return { overview: "api/controllers" };
    case "controller":
      return { snapshot: at, keys: `${at}/keys?search=${encodeURIComponent(search)}` };
    case "timeline":
      return { view: `${at}/timeline?key=${encodeURIComponent(key)}` };
    case "informers":
      return { informers: "api/informers" };
    default:
      return {};
  }
}

function nowhere() {
  return [
    h("h1", { tabindex: "-1" }, "Nothing is here"),
    empty("This address means nothing", "It may have been cut. All views can be reached from the controllers."),
    h("p", {}, h("a", { href: "#/" }, "Show the controllers")),
  ];
}

// ---- asking

async function ask(url, signal) {
  const response = await fetch(url, { signal, cache: "no-store", headers: { accept: "application/json" } });
  const body = await response.json().catch(() => ({}));
  if (response.ok) return body;
  throw new Refusal(response.status, body.error ?? response.statusText);
}

class Refusal extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function poll() {
  clearTimeout(timer);
  asking?.abort();
  asking = null;
  if (document.hidden || state.paused) return drawLink();
  const mine = new AbortController();
  asking = mine;
  const deadline = setTimeout(() => mine.abort(), DEADLINE);
  const wanted = Object.entries(asked(state.route));
  try {
    const answers = await Promise.all(wanted.map(([, url]) => ask(url, mine.signal)));
    if (asking !== mine) return;
    wanted.forEach(([name], at) => (state.answers[name] = answers[at]));
    state.program = answers[0]?.program ?? state.program;
    Object.assign(state, { refusal: null, heard: performance.now(), failures: 0 });
    remember();
  } catch (error) {
    if (asking !== mine) return;
    if (error instanceof Refusal) Object.assign(state, { refusal: error, heard: performance.now(), failures: 0 });
    else state.failures += 1;
  } finally {
    clearTimeout(deadline);
  }
  asking = null;
  draw();
  timer = setTimeout(poll, Math.min(SLOWEST, PERIOD * 2 ** Math.max(0, state.failures - 1)));
}

function remember() {
  const { overview: all, snapshot } = state.answers;
  const shown = state.route.view === "overview" ? (all?.controllers ?? []) : state.route.view === "controller" && snapshot ? [snapshot.controller] : [];
  for (const { name, counters } of shown) {
    const turns = TURNS.reduce((sum, outcome) => sum + counters[outcome], 0);
    const samples = state.history.get(name) ?? [];
    samples.push({ at: performance.now(), turns });
    state.history.set(name, samples.slice(-SAMPLES - 1));
  }
}

const TURNS = ["success", "requeueAfter", "conflict", "error", "terminal", "panic", "timedOut", "cutOff"];

// ---- drawing

function draw() {
  const { route, answers, history, refusal } = state;
  const content = refusal ? refused(refusal) : VIEWS[route.view]({ route, ...answers, history, search });
  patch(main, content.flat(Infinity).filter(Boolean));
  const title = { overview: "Controllers", controller: route.name, timeline: route.key, informers: "Informers" }[route.view];
  const { program } = state;
  if (program) document.getElementById("program").textContent = program;
  document.title = [title ?? "Nothing is here", program].filter(Boolean).join(" · ");
  drawNav();
  drawLink();
}

function refused({ status, message }) {
  const titles = { 401: "Please log in", 403: "Not allowed", 404: "Not found" };
  return [
    h("h1", { tabindex: "-1" }, titles[status] ?? `The server answered ${status}`),
    empty(message || "It did not say why.", "The page goes on asking."),
    h("p", {}, h("a", { href: "#/" }, "Show the controllers")),
  ];
}

function drawNav() {
  const { view } = state.route;
  const link = (text, href, current) => h("a", { key: href, href, "aria-current": current ? "page" : undefined }, text);
  patch(document.getElementById("nav"), [
    link("Controllers", "#/", ["overview", "controller", "timeline"].includes(view)),
    link("Informers", "#/informers", view === "informers"),
  ]);
}

/** Whether what is shown is of now. Said aloud only when that changes. */
function drawLink() {
  const how = state.paused ? "paused" : state.failures > 0 ? "lost" : state.heard === null ? "asking" : "live";
  const text = { paused: "Paused", lost: "Connection lost", asking: "Connecting", live: "Live" }[how];
  const age = how === "lost" && state.heard !== null ? `shown is what was ${duration((performance.now() - state.heard) / 1000)} ago` : "";
  patch(document.getElementById("link"), [
    h("span", { class: `link-state ${how}` }, h("span", { class: "dot", "aria-hidden": "true" }), text, age && h("span", { class: "age" }, age)),
    h("button", { type: "button", onclick: pause, "aria-pressed": String(state.paused) }, state.paused ? "Resume" : "Pause"),
  ]);
  const announce = document.getElementById("announce");
  const said = { lost: "Connection lost, trying again", paused: "Paused" }[how] ?? "";
  if (announce.textContent !== said) announce.textContent = said;
  document.body.classList.toggle("stale", how === "lost");
}

function pause() {
  state.paused = !state.paused;
  poll();
}

/** Shows the keys that contain a text, as an address that can be shared. */
function search(text) {
  const query = text ? `?search=${encodeURIComponent(text)}` : "";
  history.replaceState(null, "", controllerAddress(state.route.name) + query);
  const input = document.getElementById("search");
  if (input && input.value !== text) input.value = text;
  state.route = parse(location.hash);
  poll();
}

// ---- moving

addEventListener("hashchange", () => {
  Object.assign(state, { route: parse(location.hash), answers: {}, refusal: null });
  draw();
  scrollTo(0, 0);
  main.querySelector("h1")?.focus({ preventScroll: true });
  if (state.paused) state.paused = false;
  poll();
});
document.addEventListener("visibilitychange", poll);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

draw();
poll();
