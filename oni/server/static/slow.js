// Who is behind: readers that have not taken what was there a second ago.

import { $, count, keep, make, say, span } from "./dom.js";

const POLICIES = {
  gap: "is told of a gap",
  latest: "gets the newest only",
  disconnect: "is disconnected in the end",
};

/** Show what was told. */
export function showSlow({ rows, total }) {
  say($("slow-count"), total > rows.length ? `the worst ${rows.length} of ${count(total)}` : "");
  $("slow-none").hidden = rows.length > 0;
  $("slow-box").hidden = rows.length === 0;
  const seen = new Map();
  const keyed = rows.map((row) => {
    const name = JSON.stringify([row.client, row.address, row.channel]);
    seen.set(name, (seen.get(name) ?? 0) + 1);
    return { ...row, key: name + seen.get(name) };
  });
  keep($("slow-table").tBodies[0], keyed, (row) => row.key, create, update);
}

function create(row) {
  const who = row.user || (row.client ? "a client without a name" : "in this process");
  const reader = make("th", "", make("span", "name", who), make("span", "more", row.address));
  reader.scope = "row";
  const policy = make("span", "more", POLICIES[row.policy] ?? row.policy);
  const channel = make("td", "", make("span", "name", row.channel), policy);
  return make("tr", "", reader, channel, make("td", "number", make("span"), make("span", "more")));
}

function update(child, row) {
  const [behind, since] = child.lastChild.children;
  say(behind, count(row.behind));
  say(since, `for ${span(row.seconds)}`);
}
