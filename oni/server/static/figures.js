// The figures at the top, and how three of them went in the last minute.

import { $, count, make, rate, say, span } from "./dom.js";

const KEPT = 60; // seconds
const SVG = "http://www.w3.org/2000/svg";

const milliseconds = (value) => `${rate(value * 1000)} ms`;

const FIGURES = [
  ["Connections", (told) => told.figures.connections, count,
    (told) => `of ${count(told.figures.max_connections)}`],
  ["Channels", (told) => told.figures.channels, count],
  ["Subscriptions", (told) => told.figures.subscriptions, count],
  ["Publications per second", (told) => told.rates.publications, rate],
  ["Deliveries per second", (told) => told.rates.deliveries, rate],
  ["Reactor lag", (told) => told.figures.lag, milliseconds],
];
const DRAWN = 3; // from this one on

const values = FIGURES.map(() => []);
let shown = null;
let seen = null;

function build() {
  shown = FIGURES.map(([name], place) => {
    const number = make("span", "value");
    const more = make("span", "more");
    const box = make("div", "figure", make("dt", "", name), make("dd", "", number, " ", more));
    let line = null;
    if (place >= DRAWN) {
      const picture = document.createElementNS(SVG, "svg");
      picture.setAttribute("viewBox", `0 0 ${KEPT - 1} 20`);
      picture.setAttribute("preserveAspectRatio", "none");
      picture.setAttribute("aria-hidden", "true");
      line = document.createElementNS(SVG, "polyline");
      picture.append(line);
      box.append(picture);
    }
    $("figures").append(box);
    return { number, more, line };
  });
}

/** Show what was told. */
export function showFigures(told) {
  if (!shown) build();
  const isNew = told.node.uptime !== seen; // a search is answered from what was seen already
  seen = told.node.uptime;
  FIGURES.forEach(([, read, write, more], place) => {
    const value = read(told);
    say(shown[place].number, write(value));
    if (more) say(shown[place].more, more(told));
    if (shown[place].line && isNew) draw(values[place], value ?? 0, shown[place].line);
  });
  const { node } = told;
  const backend = node.backend_up ? node.backend : `${node.backend} is down`;
  say($("node"), `version ${node.version}, up ${span(node.uptime)}, backend ${backend}`);
}

function draw(kept, value, line) {
  kept.push(value);
  if (kept.length > KEPT) kept.shift();
  const most = Math.max(...kept) || 1;
  const start = KEPT - kept.length;
  const points = kept.map((each, n) => `${start + n},${(19 - (each / most) * 18).toFixed(1)}`);
  line.setAttribute("points", points.join(" "));
}
