// What all parts of the page need of the document. Text goes in as text, never as markup.

export const $ = (id) => document.getElementById(id);

/** Make an element with a class and what is in it. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Change a text only where it differs, so that nothing is read out or drawn again. */
export function say(element, words) {
  if (element.textContent !== words) element.textContent = words;
}

/**
 * Make the children of a list those of some items: known ones stay the same elements.
 *
 * While one of them has the focus their order stays as it is: it would be lost otherwise.
 */
export function keep(list, items, key, create, update) {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  const isHeld = list.contains(document.activeElement);
  let place = list.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let child = known.get(name);
    known.delete(name);
    if (!child) {
      child = create(item);
      child.dataset.key = name;
      list.append(child);
    }
    update(child, item);
    if (isHeld) continue;
    if (child === place) place = place.nextElementSibling;
    else list.insertBefore(child, place);
  }
  for (const child of known.values()) child.remove();
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** Write a number in few characters. */
export function count(value) {
  return value >= 100_000 ? short.format(value) : whole.format(value);
}

/** Write a rate; null is not known yet. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? count(value) : small.format(value);
}

/** Write seconds as people say them. */
export function span(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 6000) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}

/** Write a time of the day, with milliseconds where they matter. */
export function clock(date, precise = false) {
  const pad = (number, width = 2) => String(number).padStart(width, "0");
  const parts = [date.getHours(), date.getMinutes(), date.getSeconds()].map((part) => pad(part));
  return parts.join(":") + (precise ? `.${pad(date.getMilliseconds(), 3)}` : "");
}
