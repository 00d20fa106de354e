// The daemons and the channels, a row each.

import { draw, make, say, set, shape } from "./dom.js";
import { BAD, CONDITIONS } from "./model.js";
import { count, duration, ending, long, rate } from "./shown.js";
import { Table } from "./table.js";

const SPARK = { width: 96, height: 22, seconds: 60, points: 60 };

const figure = (key, title, hint, of, text) => ({
  key, title, hint, of, class: "figure",
  update: (content, row) => {
    say(content, text(row));
    set(content, "data-nothing", !of(row));
  },
});

export function daemonTable(place, choose, history) {
  const columns = [
    {
      key: "condition", title: "State", hint: "As seen from outside, whatever the daemon says of itself",
      of: (row) => -CONDITIONS.indexOf(row.condition),
      make: () => {
        const parts = { mark: shape("never"), word: make("span") };
        return Object.assign(make("span", { class: "condition" }, parts.mark, parts.word), parts);
      },
      update: (content, row, element) => {
        content.mark.look(row.condition);
        say(content.word, row.condition);
        set(element, "data-condition", row.condition);
      },
    },
    {
      key: "name", title: "Daemon", heads: true,
      // The alphabet begins at its beginning.
      of: (row) => [...row.name].map((letter) => String.fromCodePoint(0xffff - letter.codePointAt(0))).join(""),
      make: () => {
        const parts = { button: make("button", { type: "button", class: "name" }), where: make("small") };
        parts.button.addEventListener("click", () => choose(parts.button.textContent));
        return Object.assign(make("span", { class: "who" }, parts.button, parts.where), parts);
      },
      update: (content, row, element) => {
        say(content.button, row.name);
        say(content.where, where(row));
        set(content.button, "aria-pressed", String(row.chosen));
        set(element, "data-chosen", row.chosen);
      },
    },
    figure("flow", "Rate", "Cycles per second; of a daemon without cycles, items per second", (row) => row.flow, (row) => rate(row.flow)),
    { key: "spark", title: "Last minute", class: "spark", make: () => spark(), update: (content, row) => drawSpark(content, history, row.name) },
    figure("p50", "p50", "Half of the bodies took at most this long", (row) => row.p50_s, (row) => duration(row.p50_s)),
    figure("p99", "p99", "99 of 100 bodies took at most this long", (row) => row.p99_s, (row) => duration(row.p99_s)),
    figure("max", "Max", "The longest body", (row) => row.max_s, (row) => duration(row.max_s)),
    figure("late", "Late", "How far behind its grid the last cycle began", (row) => row.lateness_s, (row) => duration(row.lateness_s)),
    figure("restarts", "Restarts", "Its own and those of its process", (row) => row.restartsInAll, (row) => count(row.restartsInAll)),
    figure("errors", "Errors", "How often it raised", (row) => row.errors, (row) => count(row.errors)),
  ];
  return new Table(place, "Daemons", columns, (row) => row.name);
}

/** Where a daemon lives, or how that ended. */
function where({ process, name, ofProcess, condition, phase }) {
  const place = process === name ? "" : `in ${process}, `;
  if (!ofProcess) return `${place}no process yet`;
  if (condition === "dead") return `${place}${ending(ofProcess.exit_code)}`;
  const pid = ofProcess.pid === null ? "no process" : `pid ${ofProcess.pid}`;
  return `${place}${pid}${phase === "run" || phase === "none" ? "" : `, ${phase}`}`;
}

function spark() {
  const line = draw("path", { class: "spark-line" });
  const dot = draw("circle", { class: "spark-dot", r: 2 });
  const svg = draw("svg", { viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, role: "img" }, line, dot);
  return Object.assign(svg, { line, dot });
}

function drawSpark(svg, history, name) {
  const now = history.at.at(-1) ?? 0;
  const [at, values] = history.since(now - SPARK.seconds, [`flow:${name}`]);
  const points = thinned(at, values, now);
  const most = Math.max(...points.map(([, value]) => value), 1e-9);
  const x = (when) => ((SPARK.width - 4) * (1 - (now - when) / SPARK.seconds)).toFixed(1);
  const y = (value) => (SPARK.height - 3 - (SPARK.height - 6) * (value / most)).toFixed(1);
  set(svg.line, "d", points.map(([when, value], place) => `${place ? "L" : "M"}${x(when)} ${y(value)}`).join(""));
  const last = points.at(-1);
  set(svg.dot, "cx", last ? x(last[0]) : -9);
  set(svg.dot, "cy", last ? y(last[1]) : -9);
  set(svg, "aria-label", last ? `between ${rate(Math.min(...points.map(([, value]) => value)))} and ${rate(most)}` : "nothing yet");
}

/** At most one point for each second: its mean. */
function thinned(at, values, now) {
  const bins = new Map();
  at.forEach((when, place) => {
    if (values[place] === null) return;
    const bin = Math.floor((now - when) / (SPARK.seconds / SPARK.points));
    const known = bins.get(bin) ?? { when: 0, sum: 0, count: 0 };
    bins.set(bin, { when: known.when + when, sum: known.sum + values[place], count: known.count + 1 });
  });
  return [...bins.values()].map(({ when, sum, count: many }) => [when / many, sum / many]);
}

export function channelTable(place) {
  const columns = [
    {
      key: "name", title: "Channel", heads: true,
      make: () => {
        const parts = { name: make("b"), ends: make("small") };
        return Object.assign(make("span", { class: "who" }, parts.name, parts.ends), parts);
      },
      update: (content, row, element) => {
        say(content.name, row.name);
        say(content.ends, `${row.writer} → ${row.reader}`);
        set(element, "data-pressed", row.writer_waits);
      },
    },
    {
      key: "fill", title: "Waiting", hint: "Items in the channel, of as many as it holds", class: "fill", of: (row) => row.share,
      make: () => {
        const parts = { bar: make("meter", { min: 0, max: 1 }), text: make("span") };
        return Object.assign(make("span", { class: "fill" }, parts.bar, parts.text), parts);
      },
      update: (content, row) => {
        content.bar.value = row.share;
        set(content.bar, "aria-label", `${row.fill} of ${row.maxsize} items`);
        say(content.text, `${count(row.fill)}/${count(row.maxsize)}`);
      },
    },
    figure("rate", "Rate", "Items per second that its reader took", (row) => row.rate_hz, (row) => rate(row.rate_hz)),
    {
      key: "waits", title: "Who waits", of: (row) => (row.writer_waits ? 2 : row.reader_waits ? 1 : 0),
      update: (content, row) => {
        say(content, row.writer_waits ? `▲ ${row.writer}, for room` : row.reader_waits ? `${row.reader}, for an item` : row.stale ? "◷ stale" : "nobody");
        set(content, "data-nothing", !row.writer_waits && !row.stale);
      },
    },
    { key: "policy", title: "Policy", update: (content, row) => say(content, row.policy.replace("_", " ")) },
    figure("taken", "Taken", "Items that its reader took, since the start", (row) => row.taken, (row) => count(row.taken)),
    figure("dropped", "Dropped", "Items that its policy dropped", (row) => row.dropped, (row) => count(row.dropped)),
    figure("lost", "Lost", "Items that died with their writer", (row) => row.lost, (row) => count(row.lost)),
    figure("again", "Again", "Items handed over once more", (row) => row.redelivered, (row) => count(row.redelivered)),
    figure("aside", "Aside", "Items set aside, because they killed their reader", (row) => row.set_aside, (row) => count(row.set_aside)),
  ];
  return new Table(place, "Channels", columns, (row) => row.name);
}

/** All that is known of one daemon, as terms and figures. */
export function everything(daemon, now) {
  const process = daemon.ofProcess;
  const ago = (at) => (at === null || at === undefined ? null : `${long(now - at)} ago`);
  return [
    ["State", `${daemon.condition}, health ${daemon.health}`],
    ["Says of itself", `${daemon.state}, in phase ${daemon.phase}`],
    ["Process", process ? `${process.name}, ${process.pid === null ? "no pid" : `pid ${process.pid}`}, life ${process.generation}` : daemon.process],
    ["Began", ago(process?.born)],
    ["Ended", process?.ended ? `${ago(process.ended)}, ${ending(process.exit_code)}` : null],
    ["Its loop turned", process?.heartbeat_age_s === null || !process ? null : `${duration(process.heartbeat_age_s)} ago`],
    ["Restarts", `${count(daemon.restarts)} of its own, ${count(process?.restarts ?? 0)} of its process`],
    ["In its body for", daemon.in_body_s === null ? null : duration(daemon.in_body_s)],
    ...(daemon.cycles ? [
      ["Cycles", count(daemon.executions)],
      ["Period", daemon.period_s ? `${duration(daemon.period_s)}, in fact ${duration(daemon.actual_period_s)}` : null],
      ["Body", `last ${duration(daemon.last_s)}, mean ${duration(daemon.ewma_s)}, ${duration(daemon.min_s)} to ${duration(daemon.max_s)}`],
      ["Lateness", `last ${duration(daemon.lateness_s)}, most ${duration(daemon.max_lateness_s)}`],
      ["Jitter", `last ${duration(daemon.jitter_s)}, most ${duration(daemon.max_jitter_s)}`],
      ["Skipped", count(daemon.skipped)],
      ["Budget", daemon.budget_s ? `${duration(daemon.budget_s)}, exceeded ${count(daemon.overruns)} times` : null],
    ] : []),
    ["Errors", count(daemon.errors)],
  ].filter(([, value]) => value !== null);
}

export const isBad = (row) => BAD.has(row.condition);
