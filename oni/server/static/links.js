// Deep links: which channels are listened to is said in the address, behind the #.

/** Give the fragment for some channels. */
export function linkTo(channels) {
  return `#${channels.map((name) => `channel=${encodeURIComponent(name)}`).join("&")}`;
}

/** Give the channels that a fragment names, null where it is none of ours. */
export function channelsIn(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, "").replaceAll("+", "%2B"));
  const channels = given.getAll("channel").map((name) => name.trim()).filter((name) => name);
  return channels.length ? [...new Set(channels)] : null;
}
