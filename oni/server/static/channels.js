// The list of channels: found, sorted, and each a link to listen to it.

import { $, count, keep, make, rate, say } from "./dom.js";
import { linkTo } from "./links.js";

/** Say what is wanted, for the next question. */
export function wish() {
  const find = $("find").value.trim();
  return new URLSearchParams({ find, sort: $("sort").value }).toString();
}

/** Call something whenever another wish is made. */
export function onWish(call) {
  $("find").addEventListener("input", call);
  $("sort").addEventListener("change", call);
}

/** Show what was told; `heard` are the channels that are listened to. */
export function showChannels({ rows, found, looked_at, total }, heard) {
  const find = $("find").value.trim();
  let words = rows.length < found ? `the first ${count(rows.length)} of ${count(found)}` : "";
  if (find && !words) words = `${count(found)} of ${count(total)}`;
  if (looked_at < total) words += `, among the oldest ${count(looked_at)} of ${count(total)}`;
  say($("channels-count"), words || (total ? count(total) : ""));
  $("channels-none").hidden = rows.length > 0;
  $("channel-box").hidden = rows.length === 0;
  say(
    $("channels-none"),
    total
      ? "No channel has this in its name."
      : "There is no channel yet. One begins when somebody subscribes to it: listen to one here, " +
          "and it is in this list.",
  );
  keep($("channel-table").tBodies[0], rows, (row) => row.name, create, (child, row) =>
    update(child, row, heard),
  );
}

function create(row) {
  const link = make("a", "name", row.name);
  link.href = linkTo([row.name]);
  const name = make("th", "", link);
  name.scope = "row";
  return make("tr", "", name, make("td", "number"), make("td", "number"));
}

function update(child, row, heard) {
  const [name, readers, flow] = child.children;
  const link = name.firstChild;
  if (heard.has(row.name)) link.setAttribute("aria-current", "true");
  else link.removeAttribute("aria-current");
  say(readers, count(row.subscribers));
  say(flow, rate(row.rate));
  child.classList.toggle("still", !row.rate);
}
