// One key: where it is, and its turns as a line through time.

import { h } from "./dom.js";
import { ago, clock, controllerAddress, count, duration, many, outcomeOf } from "./format.js";
import { badge, empty, failedText, keyText, reasonsText } from "./parts.js";
import { loading } from "./controllers.js";

export function timelineView({ route, view }) {
  const { name, key } = route;
  const head = [
    h(
      "nav",
      { key: "crumbs", class: "crumbs", "aria-label": "Breadcrumb" },
      h("a", { href: "#/" }, "Controllers"),
      h("a", { href: controllerAddress(name) }, name),
      h("span", {}, key),
    ),
    h("h1", { key: "title", class: "mono", tabindex: "-1" }, keyText(key)),
  ];
  if (!view) return [head, loading()];
  const { turns, forgotten, now: status, time } = view;
  return [
    head,
    h(
      "div",
      { key: "now", class: `now ${nowTone(status)}` },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("p", {}, nowText(status, view.known)),
      strip(turns),
    ),
    turns.length === 0
      ? empty(
          view.known ? "No turn yet" : "Nothing is known of this key",
          view.known
            ? "The key has come up, and its first turn is to come."
            : "It may not exist, may not have come up since the program started, or its turns may have made room for those of others.",
          "The page shows a turn as soon as it begins.",
        )
      : [
          h("ol", { class: "timeline", "aria-label": "Turns, the latest first" }, entries(turns, time)),
          h("p", { class: "none" }, forgotten > 0 ? `${many(forgotten, "older turn")} forgotten` : "These are all turns that are known."),
        ],
  ];
}

function nowTone(status) {
  switch (status.place) {
    case "reconciling":
    case "settling":
    case "inHand":
      return "active";
    case "backingOff":
      return "bad";
    case "idle":
    case "unknown":
      return status.failures > 0 ? "bad" : "quiet";
    default:
      return "warn";
  }
}

function nowText(status, known) {
  const time = duration(status.seconds);
  const why = reasonsText(status);
  const because = why ? ` Why: ${why}.` : "";
  const again = status.again ? " It comes again after this turn." : "";
  switch (status.place) {
    case "reconciling":
      return `Reconciling for ${time}.${again}`;
    case "settling":
      return `Reconciled; for ${time} it has been waiting until the caches show its writes.${again}`;
    case "inHand":
      return `In a worker's hands for ${time}.${again}${because}`;
    case "ready":
      return `Waiting for a worker for ${time}, with priority ${status.priority}.${because}`;
    case "backingOff":
      return `It ${failedText(status.failures)}, and is tried again in ${time}, or when something changes.`;
    case "delayed":
      return `Due in ${time}.${because}`;
    case "unknown":
      return "It has no turn. Whether it waits is not known: the queue has too many keys to be looked through.";
    default:
      if (status.failures > 0) return `Failed ${time} ago, and waits for a change.`;
      return known ? `Idle for ${time}: all is as it should be until something changes.` : "Not in the queue.";
  }
}

const STRIP = 26;

/** The last turns as bars, the oldest first: how long each took, and how it ended. */
function strip(turns) {
  if (turns.length < 3) return null;
  const longest = Math.max(...turns.map(total));
  const height = (turn) => Math.round(STRIP * Math.max(0.15, longest > 0 ? Math.sqrt(total(turn) / longest) : 0));
  const bar = (turn, at) =>
    h("rect", { class: toneOf(turn), x: at * 9 + 1, width: 7, rx: 2, y: STRIP - height(turn), height: height(turn) });
  const width = turns.length * 9;
  const drawing = { class: "strip", viewBox: `0 0 ${width} ${STRIP}`, width, height: STRIP, "aria-hidden": "true" };
  return h("svg", drawing, turns.toReversed().map(bar));
}

function total(turn) {
  return turn.reconciledSeconds + (turn.settledSeconds ?? 0);
}

function toneOf(turn) {
  return turn.outcome ? outcomeOf(turn.outcome.result).tone : "active";
}

function entries(turns, now) {
  return turns.flatMap((turn, at) => {
    const older = turns[at + 1];
    const idle = older && (Date.parse(turn.at) - Date.parse(older.at)) / 1000 - total(older);
    return [entry(turn, now), idle > 0.5 && h("li", { key: `before-${turn.number}`, class: "gap" }, `${duration(idle)} between`)];
  });
}

function entry(turn, now) {
  const { label, mark } = turn.outcome ? outcomeOf(turn.outcome.result) : { label: "Under way", mark: "clock" };
  return h(
    "li",
    { key: turn.number, class: `turn ${toneOf(turn)}` },
    h("span", { class: "node", "aria-hidden": "true" }, drawn(mark)),
    h(
      "article",
      { class: "turn-body", "aria-labelledby": `turn-${turn.number}` },
      h(
        "header",
        {},
        h("h2", { id: `turn-${turn.number}` }, label),
        turn.attempt > 1 && badge("warn", `attempt ${turn.attempt}`),
        turn.priority !== 0 && badge("quiet", `priority ${turn.priority}`),
        turn.unseen && badge("warn", "writes not seen in time"),
        h("span", { class: "when" }, h("time", { datetime: turn.at }, clock(turn.at, now)), ` · ${ago(turn.at, now)} · turn ${count(turn.number)}`),
      ),
      turn.outcome?.message && h("pre", { class: "message", tabindex: "0", "aria-label": "Message" }, turn.outcome.message),
      phases(turn),
      h("dl", { class: "story" }, why(turn), wrote(turn), next(turn)),
    ),
  );
}

/** How long the key waited in the queue, was reconciled, and waited for its own writes: a bar and the same in words. */
function phases(turn) {
  const parts = [
    { name: "queue", label: "waited in the queue", seconds: turn.waitedSeconds },
    { name: "work", label: turn.settledSeconds === undefined ? "reconciling" : "reconciled", seconds: turn.reconciledSeconds },
    { name: "settle", label: turn.outcome ? "until its writes were seen" : "waiting for its writes", seconds: turn.settledSeconds },
  ].filter((part) => part.seconds !== undefined);
  const shown = parts.filter((part) => part.name === "work" || part.seconds > 0.00005);
  const all = shown.reduce((sum, part) => sum + part.seconds, 0);
  const share = (part) => (all > 0 ? (100 * part.seconds) / all : 1);
  return h(
    "div",
    { class: "phases" },
    h("div", { class: "phase-bar", "aria-hidden": "true" }, shown.map((part) => h("i", { key: part.name, class: part.name, grow: share(part).toFixed(2) }))),
    h("ul", {}, shown.map((part) => h("li", { key: part.name, class: part.name }, h("strong", {}, duration(part.seconds)), ` ${part.label}`))),
  );
}

function row(term, ...content) {
  return h("div", { key: term, class: "story-row" }, h("dt", {}, term), h("dd", {}, ...content));
}

function why(turn) {
  const reasons = turn.reasons.map((reason, at) => h("li", { key: at }, reason));
  const more = turn.reasonsOmitted > 0 && h("li", { class: "muted" }, `and ${many(turn.reasonsOmitted, "more reason")}`);
  const first = turn.triggeredSeconds > 0.0005 && h("p", { class: "muted" }, `first triggered ${duration(turn.triggeredSeconds)} before`);
  const none = turn.reasons.length === 0 && h("span", { class: "muted" }, "no reason was given");
  return row("Why", none || h("ul", {}, reasons, more), first);
}

function wrote(turn) {
  const writes = turn.writes.map((write, at) => h("li", { key: at, class: `write ${write.result}` }, writeLine(write)));
  const more = turn.writesOmitted > 0 && h("li", { class: "muted" }, `and ${many(turn.writesOmitted, "more write")}`);
  const status = STATUS[turn.status] && h("li", { key: "status", class: `write ${turn.status}` }, h("span", { class: "verb" }, "status"), h("span", {}, STATUS[turn.status]));
  if (writes.length === 0 && !status) return row("Wrote", h("span", { class: "muted" }, turn.outcome ? "nothing" : "nothing yet"));
  return row("Wrote", h("ul", { class: "writes" }, writes, more, status));
}

const STATUS = { written: "written", unchanged: "was so already", refused: "could not be written" };

function writeLine(write) {
  const told = {
    written: write.resourceVersion && `version ${write.resourceVersion}`,
    unchanged: "unchanged, no request",
    refused: `refused: ${write.message}`,
  }[write.result];
  return [
    h("span", { class: "verb" }, write.verb),
    h("span", { class: "object" }, `${write.kind} `, h("span", { class: "mono" }, keyText(write.key))),
    told && h("span", { class: "told" }, told),
    h("span", { class: "after" }, `+${duration(write.afterSeconds)}`),
  ];
}

function next(turn) {
  const { outcome } = turn;
  if (!outcome) return null;
  const limit = outcome.limitSeconds !== undefined && `took longer than ${duration(outcome.limitSeconds)}; `;
  const again = outcome.againInSeconds;
  const text = {
    success: "when something changes",
    requeueAfter: `after ${duration(again ?? 0)} at the latest`,
    terminal: "when something changes; to try again would not help",
    cutOff: "with the next start, or when the key comes up again",
  }[outcome.result] ?? `${limit || ""}tried again after ${duration(again ?? 0)}, or when something changes`;
  return row("Next", text);
}

const DRAWN = {
  check: "M4 8.5l3 3 5.5-6.5",
  again: "M12.5 6.5A5 5 0 1 0 13 9M13 3.5v3h-3",
  cross: "M4.5 4.5l7 7M11.5 4.5l-7 7",
  stop: "M4 8h8",
  bolt: "M9 2.5L4.5 9H8l-1 4.5L11.5 7H8z",
  clock: "M8 4v4l2.5 2",
};

function drawn(mark) {
  return h("svg", { viewBox: "0 0 16 16" }, h("path", { d: DRAWN[mark] }));
}
