// A small client of the Centrifugo protocol in JSON. It knows nothing of the page.
//
// Events: "state" (detail: {state, words}), "publication" (detail: {channel, event, data, offset,
// epoch, tags, info}), "gap" (detail: {channel, words}: some may be missing), "channels" (the set
// of subscriptions or the state of one has changed), "refused" (detail: {channel, error}).

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
  #token;
  #socket = null;
  #lastId = 0;
  #waiting = new Map(); // command id -> {resolve, reject, timer}
  #channels = new Map(); // channel -> "waiting" or "subscribed"
  #positions = new Map(); // channel -> {epoch, offset} after which it goes on
  #asking = new Map(); // channel -> the promise of a subscribe that has no reply yet
  #isOpening = false;
  #attempt = 0;
  #retry = null;
  #silence = null;
  #ping = 0;
  #pong = false;
  #open = false;

  /** `token`, if given, is called for each connection, and gives a promise of what lets it in. */
  constructor(url, token = null) {
    super();
    this.#url = url;
    this.#token = token;
  }

  /** Connect now, whatever was waited for. */
  async connect() {
    clearTimeout(this.#retry);
    if (this.#socket || this.#isOpening) return;
    this.#say("connecting", "Connecting");
    let token = "";
    if (this.#token) {
      this.#isOpening = true;
      try {
        token = await this.#token();
      } catch (error) {
        this.#closed(error.code === "gone" ? 1006 : 3500, error.message.replace(/\.$/, ""));
        return;
      } finally {
        this.#isOpening = false;
      }
    }
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    socket.onopen = () => this.#begin(socket, token);
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
    this.#positions.delete(channel);
    this.#tell("channels");
    if (this.#open && state === "subscribed") await this.#command("unsubscribe", { channel });
  }

  /** Publish data; the promise ends when the server has answered. */
  async publish(channel, data) {
    if (!this.#open) throw new CommandError(0, "There is no connection now.");
    await this.#command("publish", { channel, data });
  }

  // --- The connection ---

  async #begin(socket, token) {
    try {
      const params = token ? { name: "console", token } : { name: "console" };
      const result = await this.#command("connect", params);
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

  #command(method, params, onResult = null) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new CommandError(0, "The server did not answer in time."));
      }, ANSWER_WITHIN * 1000);
      this.#waiting.set(id, { resolve, reject, timer, method, onResult });
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
      const result = reply[command.method] || {};
      command.onResult?.(result);
      command.resolve(result);
    }
  }

  #pushed(push) {
    const { channel } = push;
    if (push.pub) {
      this.#heardOf(channel, push.pub);
    } else if (push.unsubscribe && this.#channels.has(channel)) {
      if (push.unsubscribe.code >= 2500) {
        this.#subscribeNow(channel).catch((error) => this.#tell("refused", { channel, error }));
      } else {
        this.#channels.delete(channel);
        this.#tell("channels");
      }
    }
  }

  /** Hand a publication on, and note where the channel stands. */
  #heardOf(channel, { data, offset, tags, info }) {
    const position = this.#positions.get(channel);
    if (!this.#channels.has(channel)) return;
    if (position && offset) position.offset = offset;
    const event = tags?.event ?? "message";
    const epoch = position?.epoch;
    this.#tell("publication", { channel, event, data, offset, epoch, tags, info });
  }

  /** Ask for a channel; whoever wants it while it is being asked for waits for the same reply. */
  #subscribeNow(channel) {
    this.#channels.set(channel, "waiting");
    if (!this.#asking.has(channel)) this.#asking.set(channel, this.#ask(channel));
    return this.#asking.get(channel);
  }

  async #ask(channel) {
    try {
      const since = this.#positions.get(channel);
      const params = since ? { channel, recover: true, ...since } : { channel };
      // At once, not a turn later: what follows in the same message goes on from there.
      await this.#command("subscribe", params, (result) => {
        if (this.#channels.has(channel)) this.#subscribed(channel, since, result);
      });
      this.#asking.delete(channel);
      // Nobody may want it any more.
      if (!this.#channels.has(channel)) await this.#command("unsubscribe", { channel });
    } catch (error) {
      this.#asking.delete(channel);
      // A refusal is final; where only the connection went, the next one subscribes again.
      if (error.code !== 0 && !error.temporary) this.#channels.delete(channel);
      throw error;
    } finally {
      this.#tell("channels");
    }
  }

  /** Go on where it stopped: what was missed first, or the word that it is not known. */
  #subscribed(channel, since, { epoch = "", offset = 0, recovered, publications = [] }) {
    this.#channels.set(channel, "subscribed");
    const isWhole = since && recovered;
    const isSame = since && since.epoch === epoch && since.offset === offset;
    if (since && !isWhole && !isSame) {
      this.#tell("gap", { channel, words: "Something was missed: it is not kept" });
    }
    this.#positions.set(channel, isWhole ? { ...since } : { epoch, offset });
    for (const publication of publications) this.#heardOf(channel, publication);
    if (isWhole && !publications.length) this.#positions.set(channel, { epoch, offset });
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
