// The way to /admin: with a key where one is needed, kept only where the person says so.

const PLACE = "oni-admin-key";

/** What the daemon answers instead of an answer; its code is "gone" where it does not. */
export class DoorError extends Error {
  constructor({ code, message, field = "" }) {
    super(message);
    this.code = code;
    this.field = field;
  }
}

export class Door {
  #key = sessionStorage.getItem(PLACE) ?? "";

  /** Whether there is a key to be forgotten. */
  get hasKey() {
    return this.#key !== "";
  }

  /** Say what the daemon wants: "nothing", a "key", or that the console is "off". */
  async needs() {
    return (await this.#fetch("door", "GET")).needs;
  }

  /** Take a key. It is kept until the tab is closed, if wished; else until the page is left. */
  use(key, keep) {
    this.#key = key;
    if (keep) sessionStorage.setItem(PLACE, key);
    else sessionStorage.removeItem(PLACE);
  }

  forget() {
    this.use("", false);
  }

  get(path) {
    return this.#fetch(path, "GET");
  }

  post(path, body = "") {
    return this.#fetch(path, "POST", body);
  }

  async #fetch(path, method, body) {
    const headers = this.#key ? { "X-Admin-Key": this.#key } : {};
    if (body) headers["Content-Type"] = "application/json";
    const signal = AbortSignal.timeout(8000);
    let told;
    try {
      const response = await fetch(`/admin/${path}`, { method, headers, body, signal });
      told = await response.json();
    } catch {
      throw new DoorError({ code: "gone", message: "The daemon does not answer." });
    }
    if (told.error) throw new DoorError(told.error);
    return told;
  }
}
