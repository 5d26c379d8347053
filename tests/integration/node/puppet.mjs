// An unmodified centrifuge client, led by a test: one JSON command a line comes in, and what
// happens goes out, one JSON event a line.
import { createInterface } from "node:readline";
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const tell = (kind, members = {}) => console.log(JSON.stringify({ kind, ...members }));
const subscriptions = new Map();
let client;

// Gives one token after the other, and tells each time that it was asked.
const taking = (tokens, kind, members) =>
  tokens && {
    getToken: async () => {
      tell(kind, members);
      return tokens.shift() ?? "";
    },
  };

const commands = {
  connect({ url, options: { tokens, ...options } = {} }) {
    client = new Centrifuge(url, {
      websocket: WebSocket,
      minReconnectDelay: 50,
      maxReconnectDelay: 200,
      ...taking(tokens, "token"),
      ...options,
    });
    client.on("connected", ({ client: id, data }) => tell("connected", { id, data }));
    for (const kind of ["connecting", "disconnected"]) {
      client.on(kind, ({ code, reason }) => tell(kind, { code, reason }));
    }
    client.on("message", ({ data }) => tell("message", { data }));
    client.on("publication", ({ channel, data, offset }) =>
      tell("server_publication", { channel, data, offset }));
    client.on("subscribed", ({ channel, recovered, data }) =>
      tell("server_subscribed", { channel, recovered, data }));
    client.on("unsubscribed", ({ channel }) => tell("server_unsubscribed", { channel }));
    client.connect();
  },
  subscribe({ channel, options: { tokens, ...options } = {} }) {
    const subscription = client.newSubscription(channel, {
      minResubscribeDelay: 50,
      maxResubscribeDelay: 200,
      ...taking(tokens, "subscription_token", { channel }),
      ...options,
    });
    subscriptions.set(channel, subscription);
    subscription.on("subscribed", ({ wasRecovering, recovered, recoverable, positioned, streamPosition }) =>
      tell("subscribed", { channel, wasRecovering, recovered, recoverable, positioned, streamPosition }));
    for (const kind of ["subscribing", "unsubscribed"]) {
      subscription.on(kind, ({ code, reason }) => tell(kind, { channel, code, reason }));
    }
    subscription.on("publication", ({ data, offset, tags, info }) =>
      tell("publication", { channel, data, offset, tags, info }));
    subscription.on("join", ({ info }) => tell("join", { channel, id: info.client }));
    subscription.on("leave", ({ info }) => tell("leave", { channel, id: info.client }));
    subscription.on("error", ({ error }) => tell("error", { channel, code: error.code }));
    subscription.subscribe();
  },
  async call({ channel, method, args }) {
    const target = channel === undefined ? client : subscriptions.get(channel);
    try {
      tell("answer", { answer: (await target[method](...args)) ?? null });
    } catch (error) {
      tell("answer", { error: { code: error.code, message: error.message } });
    }
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, ...members } = JSON.parse(line);
  await commands[name](members);
}
process.exit(0);
