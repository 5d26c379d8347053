// A small client of the Centrifugo protocol in JSON. It knows nothing of the page.
//
// Events: "state" (detail: {state, words, seconds}), "publication" (detail: {channel, event,
// data, offset}), "channels" (the set of subscriptions or the state of one has changed).

const FIRST_DELAY = 0.5; // seconds
const LONGEST_DELAY = 20;
const ANSWER_WITHIN = 8;
const PING_SLACK = 10;

const WORDS = {
  1006: "the connection broke",
  1009: "a message was too large",
};

/** An answer that says no, or none at all. */
export class CommandError extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/** Say whether a client comes back after this close code: the protocol's ranges tell. */
export function reconnects(code) {
  if (code === 1009) return false; // the same message would be too large again
  return !((code >= 3500 && code <= 3999) || (code >= 4500 && code <= 4999));
}

/** Give the seconds to wait before the next attempt: longer each time, never all at once. */
export function delayFor(attempt, random = Math.random) {
  const most = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** attempt);
  return most / 2 + (random() * most) / 2;
}

export class Client extends EventTarget {
  #url;
  #socket = null;
  #lastId = 0;
  #waiting = new Map(); // command id -> {resolve, reject, timer}
  #channels = new Map(); // channel -> "waiting" or "subscribed"
  #asking = new Map(); // channel -> the promise of a subscribe that has no reply yet
  #attempt = 0;
  #retry = null;
  #silence = null;
  #ping = 0;
  #pong = false;
  #open = false;

  constructor(url) {
    super();
    this.#url = url;
  }

  /** Connect now, whatever was waited for. */
  connect() {
    clearTimeout(this.#retry);
    if (this.#socket) return;
    this.#say("connecting", "Connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#begin(socket);
    socket.onmessage = (message) => this.#received(message.data);
    socket.onclose = (close) => {
      if (this.#socket === socket) this.#closed(close.code, close.reason);
    };
  }

  /** The channels that should be heard, each with its state. */
  get channels() {
    return new Map(this.#channels);
  }

  /** Hear a channel, now and after every reconnect. */
  async subscribe(channel) {
    if (this.#channels.has(channel)) {
      throw new CommandError(105, "This channel is subscribed already.");
    }
    this.#channels.set(channel, "waiting");
    this.#tell("channels");
    if (this.#open) await this.#subscribeNow(channel);
  }

  /** Hear a channel no more. */
  async unsubscribe(channel) {
    const state = this.#channels.get(channel);
    this.#channels.delete(channel);
    this.#tell("channels");
    if (this.#open && state === "subscribed") await this.#command("unsubscribe", { channel });
  }

  /** Publish data; the promise ends when the server has answered. */
  async publish(channel, data) {
    if (!this.#open) throw new CommandError(0, "There is no connection now.");
    await this.#command("publish", { channel, data });
  }

  // --- The connection ---

  async #begin(socket) {
    try {
      const result = await this.#command("connect", { name: "page" });
      if (this.#socket !== socket) return;
      this.#open = true;
      this.#attempt = 0;
      this.#ping = result.ping || 0;
      this.#pong = Boolean(result.pong);
      this.#heard();
      this.#say("open", "Connected");
      for (const channel of this.#channels.keys()) {
        this.#subscribeNow(channel).catch((error) => this.#tell("refused", { channel, error }));
      }
    } catch (error) {
      if (this.#socket !== socket) return;
      const comes = error.temporary || error.code === 0;
      this.#drop(comes ? 3000 : 3500, error.message);
    }
  }

  #drop(code, reason) {
    const socket = this.#socket;
    this.#closed(code, reason);
    if (socket) socket.close();
  }

  #closed(code, reason) {
    this.#socket = null;
    this.#open = false;
    clearTimeout(this.#silence);
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new CommandError(0, "The connection closed before an answer came."));
    }
    this.#waiting.clear();
    for (const channel of this.#channels.keys()) this.#channels.set(channel, "waiting");
    this.#tell("channels");
    const why = reason || WORDS[code] || `close code ${code}`;
    if (!reconnects(code)) {
      this.#say("closed", `Closed: ${why}`);
      return;
    }
    const seconds = delayFor(this.#attempt++);
    this.#say("waiting", `Not connected: ${why}. Next attempt in ${Math.ceil(seconds)} s`);
    this.#retry = setTimeout(() => this.connect(), seconds * 1000);
  }

  // --- Messages ---

  #command(method, params) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new CommandError(0, "The server did not answer in time."));
      }, ANSWER_WITHIN * 1000);
      this.#waiting.set(id, { resolve, reject, timer, method });
      this.#socket.send(JSON.stringify({ id, [method]: params }));
    });
  }

  #received(text) {
    this.#heard();
    for (const line of text.split("\n")) {
      if (!line) continue;
      const reply = JSON.parse(line);
      if (reply.id) this.#answered(reply);
      else if (reply.push) this.#pushed(reply.push);
      else if (this.#pong) this.#socket?.send("{}");
    }
  }

  #answered(reply) {
    const command = this.#waiting.get(reply.id);
    if (!command) return;
    this.#waiting.delete(reply.id);
    clearTimeout(command.timer);
    if (reply.error) {
      const error = new CommandError(reply.error.code, reply.error.message);
      error.temporary = Boolean(reply.error.temporary);
      command.reject(error);
    } else {
      command.resolve(reply[command.method] || {});
    }
  }

  #pushed(push) {
    const { channel } = push;
    if (push.pub) {
      const { data, offset, tags } = push.pub;
      this.#tell("publication", { channel, event: tags?.event ?? "message", data, offset });
    } else if (push.unsubscribe && this.#channels.has(channel)) {
      if (push.unsubscribe.code >= 2500) {
        this.#subscribeNow(channel).catch((error) => this.#tell("refused", { channel, error }));
      } else {
        this.#channels.delete(channel);
        this.#tell("channels");
      }
    }
  }

  /** Ask for a channel; whoever wants it while it is being asked for waits for the same reply. */
  #subscribeNow(channel) {
    this.#channels.set(channel, "waiting");
    if (!this.#asking.has(channel)) this.#asking.set(channel, this.#ask(channel));
    return this.#asking.get(channel);
  }

  async #ask(channel) {
    try {
      await this.#command("subscribe", { channel });
      this.#asking.delete(channel);
      if (this.#channels.has(channel)) this.#channels.set(channel, "subscribed");
      else await this.#command("unsubscribe", { channel }); // nobody wants it any more
    } catch (error) {
      this.#asking.delete(channel);
      // A refusal is final; where only the connection went, the next one subscribes again.
      if (error.code !== 0 && !error.temporary) this.#channels.delete(channel);
      throw error;
    } finally {
      this.#tell("channels");
    }
  }

  /** Something came: start to count the silence again, where the server promised to ping. */
  #heard() {
    clearTimeout(this.#silence);
    if (!this.#ping) return;
    const seconds = this.#ping + PING_SLACK;
    this.#silence = setTimeout(() => this.#drop(3000, "the server is silent"), seconds * 1000);
  }

  #say(state, words) {
    this.#tell("state", { state, words });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
