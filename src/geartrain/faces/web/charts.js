// Four charts on one time axis. Each shows at most six lines: those of the chosen daemon, else the busiest.
//
// A line has a colour and dashes of its own, its figure stands beside its name, and the arrow keys read it back in time.

import { byId, draw, keep, make, say, set } from "./dom.js";
import { clock, duration, rate } from "./shown.js";

const MOST_LINES = 6;
const DASHES = [[], [7, 4], [2, 3], [10, 3, 2, 3], [4, 2], [1, 4]];
// Which lines are the busiest is looked at now and then, so that they do not change places all the time.
const CHOOSE_AGAIN_MS = 10_000;

const percent = (value) => (value === null ? "–" : `${value.toFixed(0)} %`);

const KINDS = [
  { key: "rate", of: "channels", title: "Throughput", hint: "items per second that the reader of a channel took", show: rate },
  { key: "share", of: "channels", title: "Waiting items", hint: "how full a channel is", show: percent, range: [0, 100] },
  { key: "body", of: "daemons", title: "Body duration", hint: "how long the body of a cycle took", show: duration },
  { key: "late", of: "daemons", title: "Lateness", hint: "how far behind its grid a cycle began", show: duration, signed: true },
];

export class Charts {
  constructor(history) {
    this.history = history;
    this.span = 60;
    this.charts = KINDS.map((kind) => new Chart(kind));
    byId("charts").append(...this.charts.map(({ element }) => element));
    byId("span").addEventListener("change", (event) => {
      this.span = Number(event.target.value);
      this.update(this.look, this.chosen);
    });
    document.addEventListener("theme", () => this.charts.forEach((chart) => chart.rebuild()));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.charts.forEach((chart) => chart.rebuild()));
  }

  update(look, chosen) {
    if (!look) return;
    this.look = look;
    this.chosen = chosen;
    const names = {
      channels: look.channels.filter(({ writer, reader }) => !chosen || chosen === writer || chosen === reader).map(({ name }) => name),
      daemons: look.daemons.filter(({ name, cycles, system }) => cycles && (chosen ? name === chosen : !system)).map(({ name }) => name),
    };
    for (const chart of this.charts) chart.show(names[chart.kind.of], this.history, look.now, this.span);
  }
}

class Chart {
  constructor(kind) {
    this.kind = kind;
    this.names = [];
    this.lines = new Map();
    this.place = make("div", { class: "plot", tabindex: "0", role: "img" });
    this.legend = make("ul", { class: "legend" });
    this.note = make("p", { class: "quiet" });
    this.when = make("small", { class: "quiet" });
    this.element = make("figure", { class: "chart" },
      make("figcaption", {}, make("b", {}, kind.title), " ", make("small", { class: "quiet" }, kind.hint), this.when), this.place, this.legend, this.note);
    this.place.addEventListener("keydown", (event) => this.read(event));
    this.place.addEventListener("blur", () => this.plot?.setCursor({ left: -10, top: -10 }));
    new ResizeObserver(() => this.fit()).observe(this.place);
  }

  show(all, history, now, span) {
    const met = all.filter((name) => history.columns.has(`${this.kind.key}:${name}`));
    this.pick(met, history, now - span);
    set(this.element, "data-empty", this.names.length === 0);
    this.data = history.since(now - span, this.names.map((name) => `${this.kind.key}:${name}`));
    this.from = now - span;
    this.to = now;
    say(this.note, this.words(met));
    if (!this.names.length) return;
    if (!this.plot) this.build();
    // A hidden page draws nothing, and nor does one that has no width yet.
    if (document.hidden || !this.plot) return;
    this.plot.batch(() => {
      this.plot.setData(this.data, false);
      this.plot.setScale("x", { min: this.from, max: this.to });
    });
    this.tell();
  }

  words(met) {
    if (met.length > this.names.length) return `The ${this.names.length} busiest of ${met.length}; choose a daemon to see its own.`;
    if (this.names.length) return "";
    return this.kind.of === "daemons" ? "No cycles here: these daemons are driven by their channels." : "No channels here.";
  }

  /** The lines: all of them, or the greatest; the same ones for a while. */
  pick(met, history, from) {
    const same = this.met?.join("\n") === met.join("\n");
    if (same && (met.length <= MOST_LINES || Date.now() - this.picked < CHOOSE_AGAIN_MS)) return;
    this.met = met;
    this.picked = Date.now();
    const mean = (name) => history.mean(`${this.kind.key}:${name}`, from) ?? 0;
    const busiest = [...met].map((name) => [mean(name), name]).sort(([a], [b]) => b - a).slice(0, MOST_LINES).map(([, name]) => name);
    const names = met.filter((name) => busiest.includes(name));
    if (names.join("\n") === this.names.join("\n")) return;
    this.names = names;
    this.drop();
  }

  drop() {
    this.plot?.destroy();
    this.plot = null;
  }

  rebuild() {
    this.drop();
    if (this.names.length && this.data) {
      this.build();
      this.tell();
    }
  }

  fit() {
    if (this.plot && this.place.clientWidth && this.place.clientWidth !== this.plot.width) {
      this.plot.setSize({ width: this.place.clientWidth, height: this.height });
    }
  }

  get height() {
    return 150;
  }

  build() {
    if (!this.place.clientWidth) return;
    const ink = worn("--ink-2");
    const grid = { stroke: worn("--line"), width: 1 };
    const font = "11px system-ui, sans-serif";
    const axis = { stroke: ink, grid, ticks: { show: false }, font };
    const { kind } = this;
    this.plot = new uPlot({
      width: this.place.clientWidth,
      height: this.height,
      legend: { show: false },
      cursor: { sync: { key: "geartrain" }, y: false, drag: { x: false, y: false }, points: { size: 6 } },
      padding: [8, 26, 0, 0],
      scales: { x: { time: true }, y: { range: (_plot, least, most) => kind.range ?? bounds(kind, least, most) } },
      axes: [
        { ...axis, size: 24, space: 70, values: (_plot, ticks) => ticks.map(clock) },
        { ...axis, size: 62, gap: 6, space: 28, values: (_plot, ticks) => ticks.map((tick) => kind.show(tick)) },
      ],
      series: [{}, ...this.names.map((name, place) => ({
        label: name, stroke: worn(`--line-${place + 1}`), width: 1.75, dash: DASHES[place], points: { show: false }, spanGaps: false,
      }))],
      hooks: { setCursor: [() => this.tell()] },
    }, this.data, this.place);
    keep(this.legend, this.names, this.lines, (name) => this.line(name));
    this.names.forEach((name, place) => this.lines.get(name).wear(place));
  }

  line(name) {
    const path = draw("path", { d: "M0 4H28" });
    const value = make("span", { class: "value" });
    const item = make("li", {}, draw("svg", { viewBox: "0 0 28 8", "aria-hidden": "true" }, path), make("span", { class: "name" }, name), value);
    item.figure = value;
    item.wear = (place) => {
      set(path, "class", `line-${place + 1}`);
      set(path, "stroke-dasharray", DASHES[place].join(" ") || null);
    };
    return item;
  }

  /** The figures beside the names: where the cursor is, else the last ones. */
  tell() {
    const at = this.plot?.cursor.idx ?? null;
    const times = this.data[0];
    const row = at ?? times.length - 1;
    say(this.when, at === null ? "" : ` at ${clock(times[row])}`);
    const said = this.names.map((name, place) => {
      const value = this.data[place + 1][row] ?? null;
      const item = this.lines.get(name);
      if (item) say(item.figure, this.kind.show(value));
      return `${name} ${this.kind.show(value)}`;
    });
    set(this.place, "aria-label", `${this.kind.title}${at === null ? "" : ` at ${clock(times[row])}`}: ${said.join(", ") || "nothing yet"}`);
  }

  read(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") this.plot?.setCursor({ left: -10, top: -10 });
    if (!step || !this.plot || !this.data[0].length) return;
    event.preventDefault();
    const last = this.data[0].length - 1;
    const row = Math.max(0, Math.min(last, (this.plot.cursor.idx ?? last + 1) + step));
    this.plot.setCursor({ left: this.plot.valToPos(this.data[0][row], "x"), top: 10 });
  }
}

/** From zero, or from below it where that was met, to a little above the greatest. */
function bounds(kind, least, most) {
  if (least === null || most === null) return [0, 1];
  const top = most > 0 ? most * 1.15 : 1e-6;
  return [kind.signed ? Math.min(0, least * 1.15) : 0, top];
}

/** A colour of the page as it is worn now: a canvas knows no variables. */
function worn(name) {
  const probe = byId("charts");
  probe.style.setProperty("outline-color", `var(${name})`);
  const colour = getComputedStyle(probe).outlineColor;
  probe.style.removeProperty("outline-color");
  return colour;
}
