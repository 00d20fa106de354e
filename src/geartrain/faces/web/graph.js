// The pipeline as a picture: a box for each daemon, a line for each channel with how full it is and how fast.

import { byId, draw, make, say, set, shape } from "./dom.js";
import { layout } from "./layout.js";
import { count, rate } from "./shown.js";

const MARGIN = 14;
const LETTER = 7.1;
const SMALL_LETTER = 6.3;
const BOX = { across: 46, most: 200, least: 146 };
const NARROW = 560;
const READABLE = 0.9;
const SMALLEST = 0.8;
// With short labels it may be smaller still, before it has to be scrolled.
const SMALLEST_SHORT = 0.72;
// What the side and the margins take, where there is a side.
const SIDE = { from: 1081, width: 350 + 14 + 40 + 34, margins: 40 + 34 };
// The label of a channel: its name, and under it the bar and the figures.
const LABEL = { width: 138, height: 36, short: { width: 84, height: 18 }, more: 15, bar: 30 };

export class Graph {
  /** `choose(name)` is called with the daemon somebody wants to know more of. */
  constructor(choose) {
    this.choose = choose;
    this.place = byId("drawing");
    this.main = byId("main");
    this.graph = null;
    this.width = 0;
    this.chosen = null;
    new ResizeObserver(() => this.fit()).observe(this.main);
  }

  show(graph) {
    this.graph = graph;
    this.render();
  }

  fit() {
    // A few pixels of a scroll bar make no other picture.
    if (Math.abs(this.main.clientWidth - this.width) <= 24) return;
    this.width = this.main.clientWidth;
    if (this.graph) this.render();
  }

  /** The whole width for a picture that does not fit beside the side. What is left for it then. */
  room(natural) {
    if (innerWidth < SIDE.from) return this.place.clientWidth;
    const whole = this.main.clientWidth;
    const wide = natural.width * READABLE > whole - SIDE.width;
    set(this.main, "data-wide", wide);
    return whole - (wide ? SIDE.margins : SIDE.width);
  }

  render() {
    this.down = this.main.clientWidth < NARROW;
    const joined = new Set(this.graph.edges.flatMap((edge) => [edge.source, edge.target]));
    const nodes = this.graph.nodes.filter((node) => joined.has(node.id));
    const alone = this.graph.nodes.filter((node) => !joined.has(node.id));
    this.short = false;
    let plan = this.plan(nodes);
    const room = this.room(this.natural(plan));
    if (this.natural(plan).width * SMALLEST > room) {
      this.short = true;
      plan = this.plan(nodes);
    }
    this.boxes = new Map();
    this.labels = new Map();
    const { width, height } = this.natural(plan);
    const scale = Math.max(this.short ? SMALLEST_SHORT : SMALLEST, Math.min(1, room / width));
    const picture = draw("svg", {
      viewBox: `0 0 ${width} ${height}`, width: width * scale, height: height * scale, role: "group",
      "aria-label": `${this.graph.pipeline}: ${nodes.length} daemons, ${plan.ways.length} channels. Arrow keys go from one daemon to the next.`,
    }, draw("defs", {}, arrow("flows"), arrow("pressed")));
    const lines = draw("g", {});
    const labels = draw("g", {});
    // What a label must not hide.
    this.taken = [...plan.spots.values()].map((spot) => this.square(spot));
    for (const way of plan.ways) this.drawWay(way, plan, lines, labels);
    picture.append(lines, labels, ...[...plan.spots.values()].map((spot) => this.drawBox(spot)));
    picture.addEventListener("keydown", (event) => this.walk(event));
    this.place.replaceChildren(...(nodes.length ? [picture] : []), ...this.others(alone, nodes.length));
    if (this.look) this.update(this.look, this.chosen);
    this.rove([...this.boxes.keys()][0]);
  }

  // -- the plan -------------------------------------------------------------------------------------------------------

  plan(nodes) {
    const boxWidth = (node) => Math.max(BOX.least, Math.min(BOX.most, node.id.length * LETTER + 44));
    const boxHeight = (node) => BOX.across + (node.process === node.id ? 0 : 13);
    this.labelWidth = this.short ? LABEL.short.width : LABEL.width;
    this.labelHeight = this.short ? LABEL.short.height : LABEL.height;
    return layout({ nodes, edges: this.graph.edges }, {
      size: (node) => (this.down ? { along: boxHeight(node), across: boxWidth(node) } : { along: boxWidth(node), across: boxHeight(node) }),
      gap: () => (this.down ? this.labelHeight + 44 : this.labelWidth + (this.short ? 26 : 44)),
      between: this.down ? 14 : 26,
      through: this.down ? this.labelWidth : this.labelHeight,
    });
  }

  natural({ along, across }) {
    const [width, height] = this.down ? [across, along] : [along, across];
    return { width: width + 2 * MARGIN, height: height + 2 * MARGIN };
  }

  xy(along, across) {
    return this.down ? [across + MARGIN, along + MARGIN] : [along + MARGIN, across + MARGIN];
  }

  square(spot) {
    const [width, height] = this.down ? [spot.across, spot.along] : [spot.ends - spot.begins, spot.across];
    const [x, y] = this.xy(spot.begins, spot.at - spot.across / 2);
    return { x, y, width, height };
  }

  // -- drawing --------------------------------------------------------------------------------------------------------

  drawBox(spot) {
    const { node } = spot;
    const { x, y, width, height } = this.square(spot);
    const parts = {
      shape: shape("never"),
      state: draw("text", { x: 28, y: 34, class: "state" }),
    };
    for (const [name, value] of Object.entries({ x: 10, y: 10, width: 12, height: 12 })) set(parts.shape, name, value);
    const most = Math.floor((width - 40) / LETTER);
    const box = draw("g", { class: "box", transform: `translate(${x} ${y})`, tabindex: "-1", role: "button", "data-daemon": node.id },
      draw("title", {}, node.run ? `${node.id}: ${node.run}` : node.id),
      draw("rect", { class: "ring", x: -4, y: -4, width: width + 8, height: height + 8, rx: 11 }),
      draw("rect", { class: "frame", width, height, rx: 8 }),
      parts.shape,
      draw("text", { x: 28, y: 19, class: "name" }, cut(node.id, most)),
      parts.state);
    if (node.process !== node.id) box.append(draw("text", { x: 28, y: 48, class: "process" }, cut(`in ${node.process}`, most + 3)));
    box.addEventListener("click", () => this.choose(node.id));
    this.boxes.set(node.id, { box, spot, ...parts });
    return box;
  }

  drawWay(way, plan, lines, labels) {
    const { edge, back } = way;
    const points = this.points(way, plan);
    const path = draw("path", { class: lossy(edge) ? "way lossy" : "way", d: this.curve(back ? [...points].reverse() : points, way), "marker-end": "url(#flows)" });
    lines.append(path);
    const [x, y] = this.labelAt(way, points);
    this.labels.set(edge.id, { path, ...this.drawLabel(edge, x, y, labels) });
  }

  points(way, plan) {
    const { spots, beside } = way;
    if (beside) {
      const [first, last] = [spots[0], spots.at(-1)];
      return [[first.ends, first.at], [first.ends + 30, (first.at + last.at) / 2], [last.ends, last.at]].map((at) => this.xy(...at));
    }
    const points = [];
    spots.forEach((spot, place) => {
      if (place > 0) points.push(this.xy(spot.begins, spot.at + port(plan, way, spot, "arrives")));
      if (place < spots.length - 1) points.push(this.xy(spot.ends, spot.at + port(plan, way, spot, "leaves")));
    });
    return points;
  }

  curve(points, { beside }) {
    if (beside) return `M${points[0]} Q${points[1]} ${points[2]}`;
    const steps = points.slice(1).map(([x, y], step) => {
      const [fromX, fromY] = points[step];
      if (step % 2) return `L${x} ${y}`;
      return this.down
        ? `C${fromX} ${(fromY + y) / 2} ${x} ${(fromY + y) / 2} ${x} ${y}`
        : `C${(fromX + x) / 2} ${fromY} ${(fromX + x) / 2} ${y} ${x} ${y}`;
    });
    return `M${points[0]} ${steps.join(" ")}`;
  }

  /** Where a label hides least: near the middle of a step of its channel, away from boxes and from other labels. */
  labelAt(way, points) {
    let best = null;
    for (const [x, y, far] of this.placesOn(way, points)) {
      const mine = this.around(x, y, 0);
      // Room for a note is good to have, but less so than not to hide what is there now.
      const noted = this.around(x, y, this.short ? 0 : LABEL.more);
      const hidden = this.taken.reduce((sum, other) => sum + common(mine, other) + common(noted, other) / 2, 0);
      if (!best || hidden + far < best.cost) best = { x, y, mine, cost: hidden + far };
    }
    this.taken.push(best.mine);
    return [best.x, best.y];
  }

  around(x, y, more) {
    const [width, height] = [this.labelWidth + 4, this.labelHeight + more];
    return { x: x - width / 2, y: y - height / 2, width, height };
  }

  /** Places on the line, each with how much worse than the middle of the first step it is. */
  placesOn({ beside }, points) {
    if (beside) return [[...points[1], 0]];
    const places = [];
    for (let step = 0; step + 1 < points.length; step += 1) {
      const [[x, y], [toX, toY]] = [points[step], points[step + 1]];
      for (const t of [0.5, 0.4, 0.6, 0.3, 0.7]) {
        // The curve is flat at both ends, along the flow.
        const bend = step % 2 ? t : t * t * (3 - 2 * t);
        const at = this.down ? [x + (toX - x) * bend, y + (toY - y) * t] : [x + (toX - x) * t, y + (toY - y) * bend];
        places.push([...at, 400 * step + 600 * Math.abs(t - 0.5)]);
      }
    }
    return places;
  }

  drawLabel(edge, x, y, labels) {
    const width = this.labelWidth;
    const top = this.short ? 0 : 16;
    const parts = {
      frame: draw("rect", { class: "frame", x: -width / 2, y: -this.labelHeight / 2, width, height: this.labelHeight, rx: 6 }),
      bar: draw("rect", { class: "bar", x: -width / 2 + 8, width: 0, height: 6, rx: 2 }),
      fill: draw("text", { class: "fill", x: -width / 2 + 8 + LABEL.bar + 5 }),
      rate: draw("text", { class: "rate", x: width / 2 - 8 }),
      note: draw("text", { class: "note", x: 0 }),
    };
    const middle = -this.labelHeight / 2 + top + 9;
    set(parts.bar, "y", middle - 3);
    set(parts.fill, "y", middle + 3.5);
    set(parts.rate, "y", middle + 3.5);
    set(parts.note, "y", middle + 19);
    const group = draw("g", { class: "label", transform: `translate(${x} ${y})`, "data-channel": edge.id },
      draw("title", {}, `${edge.id}: ${edge.source}.${edge.source_port} to ${edge.target}.${edge.target_port}, ${edge.policy}, at most ${edge.maxsize}`),
      parts.frame,
      draw("rect", { class: "track", x: -width / 2 + 8, y: middle - 3, width: LABEL.bar, height: 6, rx: 2 }),
      parts.bar, parts.fill, parts.rate, parts.note);
    if (!this.short) {
      group.append(draw("text", { class: "name", x: 0, y: -this.labelHeight / 2 + 13 }, cut(edge.id, Math.floor((width - 12) / SMALL_LETTER))));
    }
    if (this.short) parts.fill.remove();
    labels.append(group);
    return { group, x, y, ...parts };
  }

  /** Daemons without channels, as the clock and the observer mostly are: a row of their own. */
  others(alone, some) {
    if (!alone.length) return [];
    const row = make("ul", { class: "alone" }, ...alone.map((node) => {
      const parts = { shape: shape("never"), state: make("span", { class: "quiet" }) };
      const box = make("button", { type: "button", "data-daemon": node.id }, parts.shape, make("b", {}, node.id), parts.state);
      box.addEventListener("click", () => this.choose(node.id));
      this.boxes.set(`alone ${node.id}`, { box, name: node.id, ...parts });
      return make("li", {}, box);
    }));
    return some ? [make("p", { class: "quiet" }, "Without channels"), row] : [row];
  }

  // -- what changes ---------------------------------------------------------------------------------------------------

  update(look, chosen) {
    this.look = look;
    this.chosen = chosen;
    if (!this.graph) return;
    for (const [key, box] of this.boxes) this.updateBox(box.name ?? key, box, look);
    for (const channel of look.channels) {
      const label = this.labels.get(channel.name);
      if (label) this.updateLabel(label, channel);
    }
  }

  updateBox(name, { box, shape: mark, state }, look) {
    const daemon = look.daemon.get(name);
    if (!daemon) return;
    mark.look(daemon.condition);
    const flow = daemon.flow === null ? "" : ` · ${rate(daemon.flow)}`;
    say(state, `${daemon.condition}${flow}`);
    set(box, "data-condition", daemon.condition);
    set(box, "aria-pressed", String(name === this.chosen));
    set(box, "aria-label", `${name}: ${daemon.condition}${daemon.flow === null ? "" : `, ${rate(daemon.flow)}`}`);
    if (name === this.chosen) set(box, "data-chosen", "");
    else set(box, "data-chosen", null);
  }

  updateLabel({ group, x, y, path, frame, bar, fill, rate: speed, note }, channel) {
    const pressed = channel.writer_waits;
    set(bar, "width", (channel.share * LABEL.bar).toFixed(1));
    say(fill, `${count(channel.fill)}/${count(channel.maxsize)}`);
    say(speed, rate(channel.rate_hz));
    const words = pressed ? `▲ ${channel.writer} waits` : channel.stale ? "◷ nothing comes" : "";
    if (this.short) say(speed, `${words.slice(0, 1)} ${rate(channel.rate_hz)}`);
    else say(note, cut(words, 18));
    set(group, "data-pressed", pressed);
    set(group, "data-stale", Boolean(channel.stale));
    set(path, "data-pressed", pressed);
    set(path, "marker-end", pressed ? "url(#pressed)" : "url(#flows)");
    set(path, "data-full", channel.share >= 1);
    if (this.short) return;
    const more = words ? LABEL.more : 0;
    set(frame, "height", this.labelHeight + more);
    set(group, "transform", `translate(${x} ${y - more / 2})`);
  }

  // -- keys -----------------------------------------------------------------------------------------------------------

  /** One box is in the order of the tab key; the arrows lead to the others. */
  rove(name) {
    for (const [key, { box, spot }] of this.boxes) if (spot) set(box, "tabindex", key === name ? "0" : "-1");
    this.at = name;
  }

  walk(event) {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.choose(this.at);
      return;
    }
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if (!dx && !dy) return;
    event.preventDefault();
    const next = this.nearest(dx, dy);
    if (!next) return;
    this.rove(next);
    this.boxes.get(next).box.focus();
  }

  /** The box that is nearest in this direction; what lies aside counts as further away. */
  nearest(dx, dy) {
    const middle = (spot) => this.xy((spot.begins + spot.ends) / 2, spot.at);
    const [x, y] = middle(this.boxes.get(this.at).spot);
    let best = null;
    for (const [name, { spot }] of this.boxes) {
      if (!spot || name === this.at) continue;
      const [toX, toY] = middle(spot);
      const ahead = (toX - x) * dx + (toY - y) * dy;
      const aside = Math.abs((toX - x) * dy) + Math.abs((toY - y) * dx);
      if (ahead > 1 && (!best || ahead + 2 * aside < best.far)) best = { name, far: ahead + 2 * aside };
    }
    return best?.name;
  }
}

/** Channels leave a box side by side, in the order of where they lead. */
function port(plan, way, spot, side) {
  if (!spot.node) return 0;
  const ends = plan.ways.filter((other) => !other.beside && (side === "leaves" ? other.spots[0] : other.spots.at(-1)) === spot);
  const other = (end) => (side === "leaves" ? end.spots[1] : end.spots.at(-2)).at;
  ends.sort((a, b) => other(a) - other(b));
  const step = Math.min(14, (spot.across - 16) / Math.max(1, ends.length - 1));
  return (ends.indexOf(way) - (ends.length - 1) / 2) * step;
}

/** How much of two rectangles is common to both. */
function common(one, other) {
  const width = Math.min(one.x + one.width, other.x + other.width) - Math.max(one.x, other.x);
  const height = Math.min(one.y + one.height, other.y + other.height) - Math.max(one.y, other.y);
  return width > 0 && height > 0 ? width * height : 0;
}

const lossy = (edge) => !edge.policy.startsWith("block");

const cut = (text, most) => (text.length > most ? `${text.slice(0, Math.max(1, most - 1))}…` : text);

const arrow = (name) =>
  draw("marker", { id: name, viewBox: "0 0 8 8", refX: 7.5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse", markerUnits: "userSpaceOnUse", class: `arrow ${name}` },
    draw("path", { d: "M0 .5 8 4 0 7.5z" }));
