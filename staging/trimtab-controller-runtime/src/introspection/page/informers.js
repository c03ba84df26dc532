// The informers: what is in the caches, how current it is, who is told.

import { h } from "./dom.js";
import { bytes, count, duration, many } from "./format.js";
import { badge, empty, figure } from "./parts.js";
import { loading, title } from "./controllers.js";

export function informersView({ informers: shown }) {
  if (!shown) return [title("Informers"), loading()];
  const { informers } = shown;
  const sum = (of) => informers.reduce((total, informer) => total + of(informer), 0);
  const objects = many(sum((informer) => informer.objects), "object");
  const text = `${many(informers.length, "informer")} · ${objects} in ${bytes(sum((informer) => informer.bytes))}`;
  return [
    title("Informers", informers.length > 0 && h("p", { class: "sum" }, text)),
    informers.length === 0
      ? empty("No informers yet", "They are shown here when a controller that watches something has begun.")
      : h("ul", { class: "cards" }, informers.map(card)),
  ];
}

function card(informer) {
  const bad = informer.unhealthy !== undefined;
  return h(
    "li",
    { key: `${informer.kind} ${informer.selection}`, class: bad ? "card trouble" : "card" },
    h("div", { class: "card-head" }, h("h2", {}, informer.kind), health(informer, bad), h("p", { class: "kind" }, informer.selection)),
    bad && h("p", { class: "message" }, informer.unhealthy),
    !bad && informer.trouble && h("p", { class: "message mild" }, `Last trouble: ${informer.trouble}`),
    h(
      "dl",
      { class: "figures pairs" },
      figure("Objects", count(informer.objects)),
      figure("Memory", bytes(informer.bytes), "", informer.objects > 0 && `${bytes(informer.bytes / informer.objects)} each`),
      figure("Events", count(informer.events)),
      figure("Silent for", duration(informer.silentSeconds), informer.silentSeconds > informer.silenceExpectedSeconds ? "bad" : "", `of ${duration(informer.silenceExpectedSeconds)} at most`),
    ),
    h("p", { class: "notes" }, notes(informer).join(" · ")),
    handlers(informer),
  );
}

function health(informer, bad) {
  if (bad) return badge("bad", "unhealthy");
  return informer.synced ? badge("good", "synced") : badge("warn", "first list");
}

function notes(informer) {
  const { relists } = informer;
  const again = relists.expired + relists.unknown + relists.failed;
  const why = [
    relists.expired > 0 && `${count(relists.expired)} expired`,
    relists.unknown > 0 && `${count(relists.unknown)} unknown to the server`,
    relists.failed > 0 && `${count(relists.failed)} after failures`,
  ].filter(Boolean);
  return [
    informer.resourceVersion ? `at version ${informer.resourceVersion}` : "at no version yet",
    `${bytes(informer.receivedBytes)} received`,
    many(informer.lists, "list"),
    again > 0 && `${many(again, "relist")} (${why.join(", ")})`,
    many(informer.watches, "watch", "watches"),
    many(informer.bookmarks, "bookmark"),
    informer.failures > 0 && many(informer.failures, "failure"),
    informer.undecodable > 0 && `${count(informer.undecodable)} not decodable`,
    informer.handlerPanics > 0 && `${many(informer.handlerPanics, "change")} lost to panics of handlers`,
  ].filter(Boolean);
}

function handlers(informer) {
  if (informer.handlers.length === 0) return h("p", { class: "notes" }, "Nobody is told of changes.");
  const one = (handler, number) =>
    h(
      "li",
      { key: number },
      handler.name ? h("span", { class: "mono" }, handler.name) : h("span", { class: "muted" }, "a handler without a name"),
      h("span", { class: handler.backlog > 0 ? "when busy" : "when" }, handlerText(handler)),
    );
  return h("ul", { class: "handlers", "aria-label": "Handlers" }, informer.handlers.map(one));
}

function handlerText(handler) {
  if (handler.backlog > 0) return `${count(handler.backlog)} to be told`;
  return handler.synced ? "up to date" : "has not seen the first list";
}
