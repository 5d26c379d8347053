// The dispatcher: its phases in order, and in each the handlers with what they hear.

import { $, count, keep, make, rate, say } from "./dom.js";

let last = null; // calls by handler, and when they were counted

/** Show what was told. */
export function showHandlers({ phases, handlers, total, state }, rates, counters, uptime) {
  const seconds = last ? uptime - last.uptime : 0;
  if (last && seconds === 0) return; // this has been shown
  const calls = new Map(handlers.map((handler) => [handler.id, handler.calls]));
  const flow = (handler) => {
    const before = last?.calls.get(handler.id);
    return before === undefined || seconds <= 0 ? null : (handler.calls - before) / seconds;
  };
  const shown = handlers.map((handler) => ({ ...handler, rate: flow(handler) }));
  last = { calls, uptime };
  const words = [
    handlers.length < total
      ? `the first ${count(handlers.length)} of ${count(total)} handlers`
      : `${count(total)} handlers`,
    `${rate(rates.events)} events per second`,
    `${count(state.events_running)} running`,
    `${count(state.events_queued)} waiting`,
    `${count(counters.failures)} failures`,
  ];
  say($("handlers-count"), words.join(", "));
  const byPhase = new Map(phases.map((phase) => [phase.name, []]));
  for (const handler of shown) byPhase.get(handler.phase)?.push(handler);
  keep($("phases"), phases, (phase) => phase.name, createPhase, (child, phase) => {
    const mine = byPhase.get(phase.name);
    say(child.querySelector("h3"), phase.name);
    say(child.querySelector("p"), about(phase, mine.length));
    const table = child.querySelector("table");
    table.hidden = mine.length === 0;
    keep(table.tBodies[0], mine, (handler) => handler.id, createHandler, updateHandler);
  });
}

function about(phase, number) {
  const words = [
    phase.concurrent ? "all at once" : "one after another",
    phase.on_error === "abort" ? "a failure ends the event" : "failures end nothing",
  ];
  if (phase.always) words.push("always");
  if (phase.timeout) words.push(`${phase.timeout} s at most`);
  if (!phase.holds_turn) words.push("holds up nobody");
  if (!number) words.push("no handlers");
  return words.join(", ");
}

function createPhase(phase) {
  const child = $("phase").content.cloneNode(true).firstElementChild;
  child.querySelector("table").setAttribute("aria-label", `Handlers in ${phase.name}`);
  return child;
}

function createHandler(handler) {
  const name = make("th", "", make("span", "name", handler.name), make("span", "more"));
  name.scope = "row";
  const spec = Object.entries(handler.spec);
  const hears = spec.map(([keyword, value]) => make("code", "", `${keyword} = ${value}`));
  const what = make("td", "spec", ...(hears.length ? hears : ["every event"]));
  const calls = make("td", "number", make("span", "total"), make("span", "more"));
  const row = make("tr", "", name, what, calls);
  // Said again, for on a narrow page the style makes it look like none.
  row.role = "row";
  name.role = "rowheader";
  what.role = calls.role = "cell";
  return row;
}

function updateHandler(child, handler) {
  const more = [handler.place];
  if (handler.weak) more.push("held weakly");
  if (handler.remaining !== null) more.push(`${count(handler.remaining)} calls left`);
  if (handler.timeout !== null) more.push(`${handler.timeout} s at most`);
  say(child.querySelector("th .more"), more.join(", "));
  say(child.querySelector(".total"), count(handler.calls));
  say(child.querySelector("td .more"), handler.rate ? `${rate(handler.rate)} per second` : "");
}
