// A chat room: what was said before, what is said now, and who is there.

const element = (id) => document.getElementById(id);
const messages = new Map(); // by offset, so that none is shown twice
let epoch;
let client;

element("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  client?.disconnect();
  client = new Centrifuge("ws://127.0.0.1:8000/connection/websocket", {
    data: { name: element("name").value },
  });
  client.on("disconnected", (context) => {
    element("trouble").textContent = context.reason;
    element("room").hidden = true;
  });
  const room = client.newSubscription("chat:lobby", { joinLeave: true });
  room.on("publication", show);
  room.on("join", () => showPresent(room));
  room.on("leave", () => showPresent(room));
  room.on("subscribed", (context) => enter(room, context));
  room.subscribe();
  client.connect();
  element("say").onsubmit = (submitted) => say(submitted, room);
});

async function enter(room, context) {
  element("trouble").textContent = "";
  element("enter").hidden = true;
  element("room").hidden = false;
  if (!context.recovered) { // the first time, or too much was missed: what is there now?
    if (context.streamPosition.epoch !== epoch) messages.clear();
    epoch = context.streamPosition.epoch;
    const history = await room.history({ limit: 50, reverse: true });
    history.publications.forEach(show);
  }
  showPresent(room);
}

function show(publication) {
  messages.set(publication.offset, publication);
  const lines = [...messages.values()].sort((one, other) => one.offset - other.offset);
  element("messages").replaceChildren(...lines.map(lineOf));
}

function lineOf({ data, info }) {
  const line = document.createElement("li");
  line.textContent = `${info.connInfo.name}: ${data.text}`; // as text, whatever it is
  return line;
}

async function showPresent(room) {
  const { clients } = await room.presence();
  const names = Object.values(clients).map((other) => other.connInfo.name);
  element("present").textContent = names.sort().join(", ");
}

async function say(event, room) {
  event.preventDefault();
  try {
    await room.publish({ text: element("text").value });
    element("text").value = "";
    element("trouble").textContent = "";
  } catch (refused) {
    element("trouble").textContent = refused.message;
  }
}
