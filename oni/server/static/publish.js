// The publish box: what is wrong is said at the field, what worked with the position.

import { $, clock, count, say } from "./dom.js";

const FIELDS = { channel: "publish-channel", event: "event", data: "data" };

/** Publish through this door. */
export function beginPublishing(door) {
  $("publish").addEventListener("submit", (event) => {
    event.preventDefault();
    publish(door);
  });
  $("data").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("publish").requestSubmit();
  });
}

async function publish(door) {
  complain("", "");
  say($("publish-done"), "");
  const channel = $("publish-channel").value.trim();
  const event = $("event").value.trim();
  const data = $("data").value.trim();
  if (!channel) {
    complain("channel", "Name a channel.");
    return;
  }
  const trouble = notJson(data);
  if (trouble) {
    complain("data", trouble);
    return;
  }
  // As it was written, once it is known to be one value: numbers may be longer than JavaScript's.
  const start = JSON.stringify({ channel, event }).slice(0, -1);
  try {
    const { offset } = await door.post("publish", `${start},"data":${data}}`);
    say($("publish-done"), `Published as ${count(offset)}, at ${clock(new Date())}`);
  } catch (error) {
    const code = typeof error.code === "number" ? ` (${error.code})` : "";
    const words = error.field ? `${sentence(error.message)}${code}` : `${error.message}${code}`;
    complain(error.field, error.field ? words : `Not published: ${words}`);
  }
}

function notJson(text) {
  if (!text) return "Write some JSON: a text in quotes, a number, {…}, […] or null.";
  try {
    JSON.parse(text);
    return "";
  } catch (error) {
    return `This is not JSON: ${error.message}`;
  }
}

function sentence(words) {
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** Say what is wrong at the field, and go there; without a field below the form. */
function complain(field, words) {
  say($("publish-trouble"), field in FIELDS ? "" : words);
  for (const [name, id] of Object.entries(FIELDS)) {
    const isWrong = name === field;
    say($(`${name}-trouble`), isWrong ? words : "");
    if (isWrong) {
      $(id).setAttribute("aria-invalid", "true");
      $(id).focus();
    } else {
      $(id).removeAttribute("aria-invalid");
    }
  }
}
