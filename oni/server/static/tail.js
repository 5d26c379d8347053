// The tail: what arrives on the channels that are listened to, newest first.

import { $, clock, count, make, say } from "./dom.js";
import { channelsIn, linkTo } from "./links.js";

const KEPT = 500; // lines; older ones go
const MOST = 16; // channels at once
const QUIET = 15_000; // milliseconds between two words to who does not see the page

const WIDE = 9.1 / 16; // of one character, as a part of the page's text size

let client = null;
let arrived = 0;
let waiting = [];
let skipped = 0;
let isPaused = false;
let isDue = false;
let untold = 0;
let toldAt = 0;
let shownAt = 0;

/** Listen with this client, to what the address says; else to these. */
export function beginTail(made, channels) {
  client = made;
  client.addEventListener("publication", ({ detail }) => arrive(detail));
  client.addEventListener("gap", ({ detail }) => arrive(detail));
  client.addEventListener("channels", showHeard);
  client.addEventListener("refused", ({ detail }) => {
    complain(refusal(`Not listening to ${detail.channel}`, detail.error));
  });
  addEventListener("hashchange", () => {
    const wanted = channelsIn(location.hash);
    if (wanted) listenTo(wanted);
  });
  listenTo(channelsIn(location.hash) ?? channels);
  tally();
}

// --- Channels ---

function listenTo(channels) {
  const wanted = new Set(channels.slice(0, MOST));
  for (const channel of client.channels.keys()) {
    if (!wanted.has(channel)) leave(channel);
  }
  for (const channel of wanted) listen(channel);
}

async function listen(channel) {
  complain("");
  if (client.channels.has(channel)) return;
  if (client.channels.size >= MOST) {
    complain(`No more than ${MOST} channels at once.`);
    return;
  }
  $("publish-channel").value = channel;
  try {
    await client.subscribe(channel);
  } catch (error) {
    if (error.code) complain(refusal(`Not listening to ${channel}`, error));
  }
}

function leave(channel) {
  client.unsubscribe(channel).catch((error) => complain(error.message));
}

$("subscribe").addEventListener("submit", (event) => {
  event.preventDefault();
  const channel = $("channel").value.trim();
  if (!channel) return;
  $("channel").value = "";
  listen(channel);
});

let showing = "";

function showHeard() {
  const heard = [...client.channels];
  const now = JSON.stringify(heard);
  if (now === showing) return;
  showing = now;
  const focused = document.activeElement?.dataset?.leaves;
  const items = heard.map(([channel, state]) => {
    const button = make("button", "quiet", "×");
    button.type = "button";
    button.dataset.leaves = channel;
    button.setAttribute("aria-label", `Listen to ${channel} no more`);
    button.addEventListener("click", () => {
      leave(channel);
      $("channel").focus();
    });
    const item = make("li", "", make("span", "name", channel), button);
    item.dataset.state = state;
    return item;
  });
  $("channels").replaceChildren(...items);
  if (focused !== undefined) {
    const again = items.find((item) => item.lastChild.dataset.leaves === focused);
    if (again) again.lastChild.focus();
  }
  const channels = heard.map(([channel]) => channel);
  const named = channelsIn(location.hash);
  if (channels.join("\n") !== (named ?? []).join("\n")) {
    history.replaceState(null, "", channels.length ? linkTo(channels) : location.pathname);
  }
  tally();
}

function refusal(what, error) {
  const code = error.code ? ` (${error.code})` : "";
  return `${what}: ${error.message}${code}`;
}

function complain(words) {
  say($("subscribe-trouble"), words);
}

// --- Lines ---

function arrive(detail) {
  arrived += 1;
  untold += 1;
  waiting.push({ ...detail, at: new Date() });
  if (waiting.length > KEPT) {
    waiting.shift();
    skipped += 1;
  }
  if (isDue) return;
  isDue = true;
  // Before the next picture, once for all that comes until then.
  requestAnimationFrame(() => {
    isDue = false;
    if (isPaused) tally();
    else show();
  });
}

/** Put what came since the last time at the top, newest first; what is being read stays. */
function show() {
  const box = $("log-box");
  const height = box.scrollHeight;
  const isCalm = waiting.length <= 2 && Date.now() - shownAt > 400;
  shownAt = Date.now();
  const lines = waiting.reverse().map((one) => (one.words ? gap(one) : line(one)));
  if (isCalm) lines.forEach((each) => each.classList.add("fresh"));
  if (skipped) {
    lines.push(gap({ words: `${count(skipped)} more came too fast to be shown`, at: new Date() }));
    skipped = 0;
  }
  waiting = [];
  $("log").prepend(...lines);
  while ($("log").childElementCount > KEPT) $("log").lastElementChild.remove();
  if (box.scrollTop > 0) box.scrollTop += box.scrollHeight - height;
  tally();
}

function line({ channel, event, data, offset, epoch, tags, info, at }) {
  const item = $("entry").content.cloneNode(true).firstElementChild;
  const time = item.querySelector("time");
  time.dateTime = at.toISOString();
  time.textContent = clock(at, true);
  const position = item.querySelector(".position");
  position.textContent = offset === undefined ? "" : String(offset);
  position.title = offset === undefined ? "" : `offset ${offset} of epoch ${epoch}`;
  item.querySelector(".event").textContent = event;
  item.querySelector(".channel").textContent = `on ${channel}`;
  item.querySelector(".by").textContent = info?.user ? `by ${info.user}` : "";
  const marks = Object.entries(tags ?? {}).filter(([name]) => name !== "event");
  const list = item.querySelector(".tags");
  if (marks.length) {
    list.append(...marks.map(([name, value]) => make("li", "", `${name}: ${value}`)));
  } else {
    list.remove();
  }
  item.querySelector(".data").textContent = plain(pretty(data));
  return item;
}

function gap({ channel, words, at }) {
  const where = channel ? ` on ${channel}` : "";
  const time = make("time", "", clock(at, true));
  return make("li", "gap", make("p", "when", time), make("p", "what", `${words}${where}`));
}

/** Say how many characters a line of data has. */
function roomFor() {
  const size = parseFloat(getComputedStyle(document.documentElement).fontSize) || 16;
  const width = $("part-tail").clientWidth - size; // the list has a margin, and may scroll
  return Math.max(24, Math.min(80, Math.floor(width / (size * WIDE))));
}

/** Write out what turns writing around or ends a line: in JSON it stands in texts only. */
function plain(json) {
  return json.replace(
    /[\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Write JSON over as few lines as are still easy to read. */
function pretty(value, room = roomFor(), indent = "") {
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const list = Array.isArray(value);
  const [open, close] = list ? "[]" : "{}";
  const parts = (inner, write) =>
    Object.entries(value).map(([key, part]) =>
      list ? inner + write(part) : `${inner}${JSON.stringify(key)}: ${write(part)}`,
    );
  if (indent.length > 64) return JSON.stringify(value);
  const short = JSON.stringify(value);
  if (short.length <= room - indent.length) {
    return `${open}${parts("", (part) => pretty(part, Infinity)).join(", ")}${close}`;
  }
  const deeper = `${indent}  `;
  const lines = parts(deeper, (part) => pretty(part, room, deeper));
  return `${open}\n${lines.join(",\n")}\n${indent}${close}`;
}

// --- What is said of it ---

function tally() {
  const heard = [...client.channels.keys()];
  const isEmpty = $("log").childElementCount === 0 && waiting.length === 0;
  $("nothing").hidden = !isEmpty;
  $("log-box").hidden = isEmpty;
  $("clear").hidden = isEmpty;
  $("pause").hidden = isEmpty && !isPaused;
  let words = arrived ? count(arrived) : "";
  if (isPaused) words = `paused, ${count(waiting.length + skipped)} since`;
  say($("count"), words);
  say(
    $("nothing-words"),
    heard.length
      ? `Nothing yet on ${heard.join(", ")}. Publish something here, or from a shell, with the ` +
          "API's key in place of the dots:"
      : "Choose a channel in the list, or name one above. To publish from a shell, with the " +
          "API's key in place of the dots:",
  );
  say($("curl"), curl(heard[0] ?? "news"));
  announce();
}

function curl(channel) {
  const told = { channel, tags: { event: "user_created" }, data: { user: "bob" } };
  const body = JSON.stringify(told).replaceAll("'", "'\\''");
  return (
    "curl -H 'Content-Type: application/json' -H 'X-API-Key: …' \\\n" +
    `    -d '${body}' \\\n    ${location.origin}/api/publish`
  );
}

/** Tell who listens to the page how much has come, now and then. */
function announce() {
  const now = Date.now();
  if (!untold || isPaused || now - toldAt < QUIET) return;
  say($("news"), untold === 1 ? "1 line has arrived" : `${count(untold)} lines have arrived`);
  untold = 0;
  toldAt = now;
}

$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  $("part-tail").classList.toggle("paused", isPaused);
  if (isPaused) tally();
  else show();
});

$("clear").addEventListener("click", () => {
  arrived = untold = skipped = 0;
  waiting = [];
  $("log").replaceChildren();
  tally();
  $("channel").focus();
});
