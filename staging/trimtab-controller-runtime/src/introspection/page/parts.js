// Pieces that several views are made of: badges, keys in lists, figures, lines of the last minute, empty states.

import { h } from "./dom.js";
import { ago, count, duration, keyAddress, many, outcomeOf, PLACES } from "./format.js";

export function badge(tone, text) {
  return h("span", { class: `badge ${tone}` }, text);
}

export function empty(title, ...why) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), why.map((text) => h("p", {}, text)));
}

/** A section with a heading, how many there are, and what to say where there are none. */
export function section(id, title, total, note, content) {
  return h(
    "section",
    { key: id, class: "panel", "aria-labelledby": `${id}-title` },
    h(
      "h2",
      { id: `${id}-title` },
      title,
      total === undefined ? null : h("span", { class: "total" }, count(total)),
    ),
    total === 0 ? h("p", { class: "none" }, note) : content,
  );
}

/** The keys of a list: some at once, the others when they are asked for, and how many there are beyond. */
export function keyList(controller, listed, now, describe, atOnce = 8) {
  const rows = (keys) => h("ul", { class: "keys" }, keys.map((key) => keyRow(controller, key, now, describe)));
  const later = listed.items.slice(atOnce);
  const beyond = listed.total - listed.items.length;
  return [
    rows(listed.items.slice(0, atOnce)),
    later.length > 0 && h("details", { key: "later" }, h("summary", {}, `${count(later.length)} more`), rows(later)),
    beyond > 0 && h("p", { key: "beyond", class: "none beyond" }, `${many(beyond, "key")} beyond these`),
  ];
}

function keyRow(controller, key, now, describe) {
  const failed = key.failures > 0 && key.last;
  return h(
    "li",
    { key: key.key, class: failed ? "key failing" : "key" },
    h(
      "div",
      { class: "key-head" },
      h("a", { class: "mono", href: keyAddress(controller, key.key) }, keyText(key.key)),
      h("span", { class: "when" }, describe(key)),
    ),
    failed && h("p", { class: "message" }, h("strong", {}, `${outcomeOf(key.last.outcome.result).label}${key.last.outcome.message ? ": " : ""}`), key.last.outcome.message),
    keyNotes(key, now),
  );
}

export function failedText(failures) {
  return failures === 1 ? "failed once" : `failed ${count(failures)} times in a row`;
}

function keyNotes(key, now) {
  const notes = [];
  if (key.failures > 0) notes.push(failedText(key.failures));
  if (key.failures > 0 && key.last) notes.push(`last ${ago(key.last.at, now)}`);
  if (key.failures === 0 && key.attempt > 1) notes.push(`attempt ${key.attempt}`);
  if (key.priority !== 0) notes.push(`priority ${key.priority}`);
  if (key.again) notes.push("comes again after this turn");
  const why = reasonsText(key);
  if (why) notes.push(why);
  return notes.length > 0 && h("p", { class: "notes" }, notes.join(" · "));
}

export function reasonsText(key) {
  const more = key.reasonsOmitted > 0 ? ` and ${many(key.reasonsOmitted, "more reason")}` : "";
  return key.reasons.join(", ") + more;
}

/** A key with its namespace less prominent than its name. */
export function keyText(key) {
  const slash = key.indexOf("/");
  if (slash < 0) return key;
  return [h("span", { class: "namespace" }, key.slice(0, slash + 1)), key.slice(slash + 1)];
}

/** Where a key is and for how long, as a few words for a list. */
export function placeText(key) {
  switch (key.place) {
    case "backingOff":
    case "delayed":
      return `due in ${duration(key.seconds)}`;
    case "idle":
    case "unknown":
      return `${duration(key.seconds)} ago`;
    default:
      return `${PLACES[key.place] ?? key.place} for ${duration(key.seconds)}`;
  }
}

export function figure(label, value, tone, detail) {
  return h(
    "div",
    { class: `figure ${tone ?? ""}` },
    h("dt", {}, label),
    h("dd", {}, value, detail && h("div", { class: "detail" }, detail)),
  );
}

/** How many of the workers are busy, as a row of lights or, for many, as a bar. */
export function workers(busy, all) {
  const shown = Math.min(busy, all);
  const lights = all <= 12;
  return h(
    "span",
    { class: lights ? "lights" : "bar", "aria-hidden": "true" },
    lights
      ? Array.from({ length: all }, (_, number) => h("i", { class: number < shown ? "on" : "" }))
      : h("i", { "width%": all > 0 ? (100 * shown) / all : 0 }),
  );
}

/** Turns per second during the last minute, from what was seen since the page was opened. */
export function pace(samples) {
  const rates = [];
  for (let at = 1; at < (samples?.length ?? 0); at += 1) {
    const seconds = (samples[at].at - samples[at - 1].at) / 1000;
    if (seconds > 0) rates.push(Math.max(0, samples[at].turns - samples[at - 1].turns) / seconds);
  }
  const last = rates.slice(-5);
  const rate = last.length > 0 ? last.reduce((sum, rate) => sum + rate, 0) / last.length : undefined;
  return { rates, rate };
}

export function paceText(rate) {
  if (rate === undefined) return "measuring";
  if (rate === 0) return "quiet";
  if (rate < 0.95) return `${count(Math.max(1, Math.round(rate * 60)))}/min`;
  return `${rate < 9.95 ? rate.toFixed(1) : count(Math.round(rate))}/s`;
}

const WIDTH = 120;
const HEIGHT = 28;
const SAMPLES = 60;

export function sparkline(rates) {
  const most = Math.max(1, ...rates);
  const x = (at) => WIDTH - (rates.length - 1 - at) * (WIDTH / (SAMPLES - 1));
  const y = (rate) => HEIGHT - 2 - (HEIGHT - 5) * (rate / most);
  const points = rates.map((rate, at) => `${x(at).toFixed(1)},${y(rate).toFixed(1)}`);
  const first = rates.length > 0 ? x(0) : WIDTH;
  return h(
    "svg",
    { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    h("line", { class: "ground", x1: 0, x2: WIDTH, y1: HEIGHT - 2, y2: HEIGHT - 2 }),
    rates.length > 1 && h("path", { class: "area", d: `M${first.toFixed(1)},${HEIGHT - 2} L${points.join(" L")} L${WIDTH},${HEIGHT - 2} Z` }),
    rates.length > 1 && h("polyline", { class: "edge", points: points.join(" ") }),
  );
}
