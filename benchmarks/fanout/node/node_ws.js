// Node's `ws`: send to each connection in turn. The probe is loop_probe.py's, said in JavaScript.
import dgram from "node:dgram";
import { WebSocket, WebSocketServer } from "ws";

const INTERVAL = 2; // milliseconds
const server = new WebSocketServer({
  host: "127.0.0.1",
  port: Number(process.argv[2]),
  backlog: 1024,
  perMessageDeflate: false,
});

server.on("connection", (connection) => {
  connection.on("message", (data) => {
    for (const other of server.clients)
      if (other.readyState === WebSocket.OPEN) other.send(data, { binary: false });
  });
});

const worst = { wall: 0, cpu: 0 };
let at = performance.now();
let used = process.cpuUsage();

function note() {
  const spent = process.cpuUsage(used);
  used = process.cpuUsage();
  const late = (performance.now() - at - INTERVAL) / 1e3;
  worst.wall = Math.max(worst.wall, late);
  worst.cpu = Math.max(worst.cpu, Math.min(late, (spent.user + spent.system) / 1e6));
  at = performance.now();
}

setInterval(note, INTERVAL);
const asked = dgram.createSocket("udp4");
asked.on("message", (text, from) => {
  note();
  asked.send(JSON.stringify(worst), from.port, from.address);
  if (String(text) === "reset") worst.wall = worst.cpu = 0;
});
asked.bind(Number(process.env.FANOUT_PROBE_PORT), "127.0.0.1");
