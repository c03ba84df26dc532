// All controllers at a glance, and one controller with its keys.

import { h } from "./dom.js";
import { ago, controllerAddress, count, duration, keyAddress, many, OUTCOMES, outcomeOf } from "./format.js";
import { badge, empty, figure, keyList, keyText, pace, paceText, placeText, section, sparkline, workers } from "./parts.js";

export function overview({ overview: shown, history }) {
  if (!shown) return [title("Controllers"), loading()];
  const { controllers } = shown;
  const sum = (of) => controllers.reduce((total, controller) => total + of(controller), 0);
  const failing = sum((controller) => controller.failing);
  const counts = [
    many(controllers.length, "controller"),
    `${count(sum((controller) => controller.inHand))} in hand`,
    `${count(sum(waiting))} waiting`,
    failing > 0 ? `${count(failing)} failing` : "none failing",
  ];
  return [
    title("Controllers", controllers.length > 0 && h("p", { class: "sum" }, counts.join(" · "))),
    shown.facts.length > 0 && h("div", { key: "facts", class: "fact-groups" }, shown.facts.map(factGroup)),
    controllers.length === 0
      ? empty("No controllers yet", "They are shown here as soon as the program describes them to its manager.")
      : h("ul", { class: "cards" }, controllers.map((controller) => card(controller, shown.time, history.get(controller.name)))),
  ];
}

/** A view's heading, and what is beside it. */
export function title(text, ...beside) {
  return h("div", { key: "title", class: "title" }, h("h1", { tabindex: "-1" }, text), beside);
}

export function loading() {
  return h("p", { class: "loading" }, "Loading…");
}

/** A key that waits to see its writes holds no worker. */
function busy(controller) {
  return controller.inHand - controller.settling;
}

function waiting(controller) {
  return controller.ready.reduce((total, depth) => total + depth.keys, 0);
}

function factGroup({ title, facts }) {
  const one = ({ label, value, level }) =>
    h("div", { class: `fact ${TONES[level] ?? ""}` }, h("dt", {}, label), h("dd", {}, value));
  return h("section", { key: `facts-${title}`, class: "facts", "aria-label": title }, h("h2", {}, title), h("dl", {}, facts.map(one)));
}

const TONES = { good: "good", warning: "warn", bad: "bad" };

function stateBadge(controller) {
  switch (controller.state) {
    case "running":
      return badge("good", "running");
    case "waiting":
      return badge("warn", "waiting");
    default:
      return badge("quiet", controller.state);
  }
}

function card(controller, now, samples) {
  const { rates, rate } = pace(samples);
  const longest = controller.longestInHandSeconds;
  return h(
    "li",
    { key: controller.name, class: controller.failing > 0 ? "card trouble" : "card" },
    h(
      "div",
      { class: "card-head" },
      h("h2", {}, h("a", { class: "cover", href: controllerAddress(controller.name) }, controller.name)),
      stateBadge(controller),
      controller.kind && h("p", { class: "kind" }, controller.kind),
    ),
    controller.state === "waiting" && h("p", { class: "waits" }, `Waits for ${controller.waitsFor}`),
    h(
      "dl",
      { class: "figures" },
      figure("In hand", count(controller.inHand), "", longest > 1 && `up to ${duration(longest)}`),
      figure("Waiting", count(waiting(controller)), "", oldest(controller)),
      figure("Later", count(controller.delayed)),
      figure("Failing", count(controller.failing), controller.failing > 0 ? "bad" : ""),
    ),
    h(
      "div",
      { class: "card-foot" },
      h("span", { class: "workers" }, workers(busy(controller), controller.workers), many(controller.workers, "worker")),
      h("span", { class: "pace" }, sparkline(rates), h("span", { class: "pace-text" }, paceText(rate))),
    ),
    controller.lastFailure && lastFailure(controller, now),
  );
}

function oldest(controller) {
  const longest = Math.max(0, ...controller.ready.map((depth) => depth.longestSeconds));
  return longest > 1 && `up to ${duration(longest)}`;
}

function lastFailure(controller, now) {
  const { key, last } = controller.lastFailure;
  if (!last) return null;
  const said = last.outcome.message ?? outcomeOf(last.outcome.result).label;
  return h(
    "p",
    { class: "last-failure" },
    h("a", { class: "mono", href: keyAddress(controller.name, key) }, keyText(key)),
    h("span", { class: "when" }, ago(last.at, now)),
    h("span", { class: "said" }, said),
  );
}

export function controllerView({ route, snapshot, keys, history, search }) {
  const { name } = route;
  const crumbs = h("nav", { key: "crumbs", class: "crumbs", "aria-label": "Breadcrumb" }, h("a", { href: "#/" }, "Controllers"), h("span", {}, name));
  if (!snapshot) return [crumbs, title(name), loading()];
  const { controller, time } = snapshot;
  const { rates, rate } = pace(history.get(name));
  const found = keys && keysSection(name, keys, route.search, search);
  return [
    crumbs,
    title(name, controller.kind && h("span", { class: "kind" }, controller.kind), stateBadge(controller)),
    controller.state === "waiting" && h("p", { class: "waits" }, `Waits for ${controller.waitsFor}`),
    figures(controller, rates, rate),
    outcomes(controller.counters),
    searchBox(route.search, search),
    route.search && found,
    snapshot.tooMany && h("p", { class: "notice" }, "The queue has too many keys to list them; failing keys and those in hand are shown."),
    h("div", { class: "panels" }, panels(name, snapshot, time)),
    !route.search && found,
  ];
}

function figures(controller, rates, rate) {
  const workersText = `${busy(controller)} of ${many(controller.workers, "worker")} busy`;
  const priorities = controller.ready
    .filter((depth) => depth.priority !== 0)
    .map((depth) => `${count(depth.keys)} at priority ${depth.priority}`);
  return h(
    "dl",
    { class: "figures wide" },
    figure("In hand", count(controller.inHand), "", workersText),
    figure("Waiting", count(waiting(controller)), "", priorities.join(", ") || oldest(controller)),
    figure("Later", count(controller.delayed), "", "delayed or backing off"),
    figure("Failing", count(controller.failing), controller.failing > 0 ? "bad" : "", controller.failing > 0 ? "their last turns failed" : "all last turns went well"),
    h("div", { class: "figure pace-figure" }, h("dt", {}, "Turns"), h("dd", {}, paceText(rate), sparkline(rates))),
  );
}

function outcomes(counters) {
  const parts = Object.entries(OUTCOMES)
    .map(([name, { label, tone }]) => ({ name, label, tone, turns: counters[name] }))
    .filter((part) => part.turns > 0);
  const turns = parts.reduce((total, part) => total + part.turns, 0);
  const writes = [
    many(counters.writes, "write"),
    counters.unchanged > 0 && `${count(counters.unchanged)} more not needed`,
    counters.refused > 0 && `${count(counters.refused)} refused`,
    counters.unseen > 0 && `${many(counters.unseen, "turn")} whose writes were not seen in time`,
  ].filter(Boolean);
  if (turns === 0) return null;
  return h(
    "div",
    { class: "outcomes" },
    h("div", { class: "stack", "aria-hidden": "true" }, parts.map((part) => h("i", { key: part.name, class: `${part.tone} ${part.name}`, grow: part.turns }))),
    h(
      "ul",
      { class: "legend" },
      parts.map((part) => h("li", { key: part.name, class: `${part.tone} ${part.name}` }, `${part.label} `, h("strong", {}, count(part.turns)))),
    ),
    h("p", { class: "notes" }, `${many(turns, "turn")} ended since the controller began, with ${writes.join(", ")}.`),
  );
}

function searchBox(text, search) {
  return h(
    "form",
    { class: "search", role: "search", onsubmit: (event) => event.preventDefault() },
    h("label", { for: "search" }, "Find a key"),
    h("input", {
      id: "search",
      type: "search",
      placeholder: "namespace/name, or a part of it",
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      value: text,
      oninput: (event) => search(event.target.value),
    }),
  );
}

function keysSection(name, keys, text, search) {
  const title = text ? `Keys with “${text}”` : "Keys, the latest first";
  const note = text
    ? "No key that waits, has a turn or had one lately has this in its name."
    : "No key has come up yet.";
  const state = (key) => (["idle", "unknown"].includes(key.place) ? lastText(key, keys.time) : placeText(key));
  return h(
    "div",
    { key: "keys" },
    section("keys", title, keys.total, note, keyList(name, keys, keys.time, state, 25)),
    text && h("p", { class: "after-list" }, h("button", { type: "button", onclick: () => search("") }, "Show all keys")),
  );
}

function lastText(key, now) {
  if (!key.last) return "idle";
  return `${outcomeOf(key.last.outcome.result).label}, ${ago(key.last.at, now)}`;
}

/** What workers have and what waits for them, and beside it what is in trouble and what is to come. */
function panels(name, snapshot, now) {
  const panel = (id, heading, listed, note, describe) =>
    section(id, heading, listed.total, note, keyList(name, listed, now, describe));
  const waits = (key) => `for ${duration(key.seconds)}`;
  return [
    h(
      "div",
      { class: "column" },
      panel("in-hand", "In hand", snapshot.inHand, "All workers are idle.", placeText),
      panel("ready", "Waiting", snapshot.ready, "No key waits for a worker.", waits),
    ),
    h(
      "div",
      { class: "column" },
      panel("failing", "Failing", snapshot.failing, "Every key's last turn went well.", nextTry),
      panel("delayed", "Later", snapshot.delayed, "No key waits for its time.", placeText),
    ),
  ];
}

function nextTry(key) {
  switch (key.place) {
    case "backingOff":
    case "delayed":
      return `tried again in ${duration(key.seconds)}`;
    case "idle":
      return "waits for a change";
    case "unknown":
      return "waits in the queue, or for a change";
    default:
      return placeText(key);
  }
}
