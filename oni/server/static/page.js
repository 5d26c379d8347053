// The console: gets in, asks once a second what there is to see, and hands it to the parts.

import { showChannels, onWish, wish } from "./channels.js";
import { Client } from "./client.js";
import { Door } from "./door.js";
import { $, clock, say } from "./dom.js";
import { showFigures } from "./figures.js";
import { showHandlers } from "./handlers.js";
import { beginPublishing } from "./publish.js";
import { showSlow } from "./slow.js";
import { beginTail } from "./tail.js";

const EVERY = 1000; // milliseconds
const LONGEST = 5000;

const door = new Door();
const scheme = location.protocol === "https:" ? "wss:" : "ws:";
const client = new Client(`${scheme}//${location.host}/connection/websocket`, async () => {
  return (await door.post("pass")).token;
});

let isOpen = false;
let timer = null;
let isAsking = false;
let asksAgain = false;
let seenAt = null;
let failures = 0;

// --- The connection ---

client.addEventListener("state", ({ detail }) => {
  $("state").dataset.state = detail.state;
  say($("state-words"), detail.words);
  $("connect").hidden = detail.state === "open" || detail.state === "connecting";
});

$("connect").addEventListener("click", () => {
  client.connect();
  ask();
});
addEventListener("online", () => isOpen && client.connect());

// --- Getting in ---

async function begin() {
  let needs;
  try {
    needs = await door.needs();
  } catch (error) {
    lose(error);
    setTimeout(begin, LONGEST);
    return;
  }
  if (needs === "nothing") enter(["news"]);
  else if (needs === "off") lock("off");
  else if (door.hasKey) enter([]);
  else lock("unlock");
}

function lock(what, words = "") {
  isOpen = false;
  clearTimeout(timer);
  $("desk").hidden = true;
  $("forget").hidden = true;
  $("connect").hidden = true;
  $("lock").hidden = false;
  $("unlock").hidden = what !== "unlock";
  $("off").hidden = what !== "off";
  say($("lock-title"), what === "off" ? "The console is off" : "Who is there?");
  say($("state-words"), what === "off" ? "Off" : "Locked");
  $("state").dataset.state = "locked";
  say($("warning"), "");
  say($("key-trouble"), words);
  if (what === "unlock") $("key").focus();
}

$("unlock").addEventListener("submit", async (event) => {
  event.preventDefault();
  say($("key-trouble"), "");
  door.use($("key").value.trim(), false);
  try {
    await door.get("snapshot");
  } catch (error) {
    door.forget();
    say($("key-trouble"), error.message);
    $("key").focus();
    return;
  }
  door.use($("key").value.trim(), $("keep").checked);
  $("key").value = "";
  enter([]);
  $("main").focus();
});

$("forget").addEventListener("click", () => {
  door.forget();
  location.replace(location.pathname); // what was shown goes, too
});

let hasBegun = false;

function enter(channels) {
  isOpen = true;
  $("lock").hidden = true;
  $("desk").hidden = false;
  $("forget").hidden = !door.hasKey;
  if (!hasBegun) {
    hasBegun = true;
    beginTail(client, channels);
    beginPublishing(door);
    onWish(ask);
  }
  client.connect();
  ask();
}

// --- Asking ---

async function ask() {
  clearTimeout(timer);
  if (!isOpen || document.hidden) return;
  if (isAsking) {
    asksAgain = true;
    return;
  }
  isAsking = true;
  asksAgain = false;
  try {
    const told = await door.get(`snapshot?${wish()}`);
    if (isOpen) show(told);
  } catch (error) {
    if (["key", "wrong", "off"].includes(error.code)) {
      door.forget();
      lock(error.code === "off" ? "off" : "unlock", error.code === "wrong" ? error.message : "");
    } else {
      lose(error);
    }
  }
  isAsking = false;
  if (isOpen) timer = setTimeout(ask, asksAgain ? 0 : Math.min(EVERY * (failures + 1), LONGEST));
}

document.addEventListener("visibilitychange", ask);

function show(told) {
  failures = 0;
  seenAt = new Date();
  delete document.body.dataset.stale;
  say($("warning"), "");
  showFigures(told);
  showChannels(told.channels, client.channels);
  showSlow(told.slow);
  showHandlers(told.dispatcher, told.rates, told.counters, told.node.uptime);
}

/** Say that nothing comes any more, and what that means for what is shown. */
function lose(error) {
  failures += 1;
  const why = error.code === "gone" ? "The daemon does not answer." : error.message;
  const old = seenAt ? ` The figures are old: they are from ${clock(seenAt)}.` : "";
  say($("warning"), `${why}${old} Trying again.`);
  if (seenAt) document.body.dataset.stale = "";
}

begin();
