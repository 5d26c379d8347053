// The page: what the client hears becomes lines, what a person writes becomes publications.

import { Client } from "./client.js";

const KEPT = 500; // lines; older ones go

const roomy = matchMedia("(min-width: 30rem)");

const $ = (id) => document.getElementById(id);

const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const client = new Client(`${scheme}//${location.host}/connection/websocket`);

// --- The connection ---

client.addEventListener("state", ({ detail }) => {
  $("state").dataset.state = detail.state;
  $("state-words").textContent = detail.words;
  $("connect").hidden = detail.state === "open" || detail.state === "connecting";
});

$("connect").addEventListener("click", () => client.connect());
addEventListener("online", () => client.connect());

// --- Channels ---

client.addEventListener("channels", () => {
  const items = [...client.channels].map(([channel, state]) => {
    const item = document.createElement("li");
    item.dataset.state = state;
    item.append(channel);
    const button = document.createElement("button");
    button.type = "button";
    button.className = "quiet";
    button.textContent = "×";
    button.setAttribute("aria-label", `Unsubscribe from ${channel}`);
    button.addEventListener("click", () => {
      client.unsubscribe(channel).catch((error) => complain("subscribe-trouble", error.message));
      $("channel").focus();
    });
    item.append(button);
    return item;
  });
  $("channels").replaceChildren(...items);
});

client.addEventListener("refused", ({ detail }) => {
  complain("subscribe-trouble", refusal(`Not subscribed to ${detail.channel}`, detail.error));
});

$("subscribe").addEventListener("submit", async (event) => {
  event.preventDefault();
  const channel = $("channel").value.trim();
  complain("subscribe-trouble", "");
  try {
    await client.subscribe(channel);
    $("publish-channel").value = channel;
  } catch (error) {
    complain("subscribe-trouble", refusal(`Not subscribed to ${channel}`, error));
  }
});

// --- Publishing ---

$("publish").addEventListener("submit", async (event) => {
  event.preventDefault();
  complain("publish-trouble", "");
  $("publish-done").textContent = "";
  try {
    const data = withEvent(JSON.parse($("data").value), $("event").value.trim());
    await client.publish($("publish-channel").value.trim(), data);
    $("publish-done").textContent = `Published at ${clock(new Date())}`;
  } catch (error) {
    const what = error instanceof SyntaxError ? "The data is not JSON" : "Not published";
    complain("publish-trouble", refusal(what, error));
  }
});

$("data").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish").requestSubmit();
});

/** Name the event where the settings look for it: event_from = "type". */
function withEvent(data, name) {
  if (!name || name === "message") return data;
  if (data === null || typeof data !== "object" || Array.isArray(data)) {
    throw new Error("only data that is an object, {...}, can carry the event's name.");
  }
  return Object.assign({ type: name }, data, { type: name }); // first in it, whatever was there
}

function refusal(what, error) {
  const code = error.code ? ` (${error.code})` : "";
  return `${what}: ${error.message}${code}`;
}

function complain(id, words) {
  $(id).textContent = words;
}

// --- What arrives ---

let arrived = 0;
let waiting = [];

client.addEventListener("publication", ({ detail }) => {
  arrived += 1;
  waiting.push({ ...detail, at: new Date() });
  if (waiting.length > KEPT) waiting.shift();
  if (waiting.length === 1) requestAnimationFrame(show);
});

/** Put what came since the last frame at the top, newest first. */
function show() {
  const lines = waiting.reverse().map(line);
  waiting = [];
  $("log").prepend(...lines);
  while ($("log").childElementCount > KEPT) $("log").lastElementChild.remove();
  tally();
}

function line({ channel, event, data, at }) {
  const item = $("entry").content.cloneNode(true).firstElementChild;
  const time = item.querySelector("time");
  time.dateTime = at.toISOString();
  time.textContent = clock(at);
  item.querySelector(".event").textContent = event;
  item.querySelector(".channel").textContent = `on ${channel}`;
  item.querySelector(".data").textContent = pretty(data);
  return item;
}

function tally() {
  $("nothing").hidden = arrived > 0;
  $("clear").hidden = arrived === 0;
  $("count").textContent = arrived ? String(arrived) : "";
}

$("clear").addEventListener("click", () => {
  arrived = 0;
  $("log").replaceChildren();
  tally();
  $("channel").focus();
});

/** Write JSON over as few lines as are still easy to read. */
function pretty(value, room = roomy.matches ? 60 : 34, indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const [open, close] = list ? "[]" : "{}";
  const parts = (inner, write) =>
    Object.entries(value).map(([key, part]) =>
      list ? inner + write(part) : `${inner}${JSON.stringify(key)}: ${write(part)}`,
    );
  const short = `${open}${parts("", (part) => pretty(part, Infinity)).join(", ")}${close}`;
  if (short.length <= room - indent.length) return short;
  const deeper = `${indent}  `;
  const lines = parts(deeper, (part) => pretty(part, room, deeper));
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

function clock(date) {
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part));
  return `${parts.join(":")}.${pad(date.getMilliseconds(), 3)}`;
}

// --- Begin ---

client.subscribe($("channel").value);
client.connect();
