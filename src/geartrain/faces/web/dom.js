// Making elements, and changing only what has changed: what stays the same costs nothing and keeps focus.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) set(element, name, value);
  element.append(...children);
  return element;
}

export const make = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

export const draw = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const byId = (id) => document.getElementById(id);

/** An attribute; without one where the value is null or false. */
export function set(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** The shape of a condition. `look` gives it another one. */
export function shape(condition) {
  const use = draw("use", { href: `#is-${condition}` });
  const svg = draw("svg", { class: "shape", viewBox: "0 0 12 12", "aria-hidden": "true" }, use);
  svg.look = (other) => set(use, "href", `#is-${other}`);
  return svg;
}

/** The children of `parent` are those of the keys, in this order: made once, updated each time, removed when gone. */
export function keep(parent, keys, known, makeOne) {
  const wanted = new Set(keys);
  for (const [key, element] of known) {
    if (!wanted.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
  keys.forEach((key, place) => {
    if (!known.has(key)) known.set(key, makeOne(key));
    const element = known.get(key);
    // One that stands where it should is not moved: it would lose the focus.
    if (parent.children[place] !== element) parent.insertBefore(element, parent.children[place] ?? null);
  });
}
