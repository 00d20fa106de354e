// The page: hears a look, makes it ready, and gives it to each part.
//
//     Feed -> digest -> History
//                    -> Graph, tables, Faults, Charts, Log

import { api, useToken } from "./api.js";
import { Charts } from "./charts.js";
import { byId, make, say, set } from "./dom.js";
import { Faults } from "./faults.js";
import { Feed } from "./feed.js";
import { Graph } from "./graph.js";
import { History } from "./history.js";
import { Log } from "./log.js";
import { BAD, counted, digest } from "./model.js";
import { clock, count, rate } from "./shown.js";
import { channelTable, daemonTable, everything } from "./tables.js";

const EVERY_S = 0.25;
// Lines that move are drawn less often than figures change.
const DRAW_MS = 500;

const history = new History();
const graph = new Graph(choose);
const daemons = daemonTable(byId("daemon-table"), choose, history);
const channels = channelTable(byId("channel-table"));
const faults = new Faults(choose);
const charts = new Charts(history);
const log = new Log();

let look = null;
let chosen = null;
let drawn = 0;
let waiting = 0;
let later = 0;
let conditions = new Map();
// Where the focus goes back to when what was chosen is closed.
let chooser = null;

byId("unchoose").addEventListener("click", close);
document.addEventListener("keydown", (event) => event.key === "Escape" && chosen && close());
document.addEventListener("visibilitychange", showSoon);
byId("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken(new FormData(byId("token")).get("token"));
  feed.open();
});
const feed = new Feed(EVERY_S, { hear, connection, refused });

function hear(live) {
  // The same one, by a new stream. An observer that was started again counts from the beginning.
  if (look?.run === live.run && live.look === look.look && live.now === look.now) return;
  const anew = look?.run !== live.run;
  if (anew) forget();
  look = digest(live);
  if (anew) drawGraph(live);
  history.add(look);
  announce();
  showSoon();
}

/** A run that was not seen before: nothing of another one is true of it. */
function forget() {
  history.clear();
  conditions = new Map();
}

async function drawGraph(live) {
  try {
    const answer = await fetch(api("graph"));
    if (!answer.ok) throw new Error(answer.statusText);
    const known = await answer.json();
    if (look.run === live.run) graph.show(known);
  } catch {
    // The connection is as bad as the banner says.
    setTimeout(() => look.run === live.run && drawGraph(live), 1000);
  }
}

/** Once more on the one that is chosen: none is. A process is as good as its first daemon. */
function choose(name) {
  const known = look?.daemon.has(name) ? name : look?.daemons.find(({ process }) => process === name)?.name;
  chosen = known === undefined || known === chosen ? null : known;
  chooser = document.activeElement;
  if (chosen) log.choose(look.daemon.get(chosen).process);
  drawn = 0;
  if (look) show();
  if (chosen) byId("chosen").scrollIntoView({ block: "nearest" });
}

function close() {
  const back = chooser;
  choose(chosen);
  back?.focus();
}

/** Looks may come faster than anybody can see. A page that is hidden draws nothing. */
function showSoon() {
  if (look && !waiting) waiting = requestAnimationFrame(show);
}

function show() {
  waiting = 0;
  header();
  faults.show(look);
  daemons.show(look.daemons.map((daemon) => ({ ...daemon, chosen: daemon.name === chosen })));
  channels.show(look.channels);
  graph.update(look, chosen);
  showChosen();
  log.of(look.processes.map(({ name }) => name));
  const left = drawn + DRAW_MS - Date.now();
  clearTimeout(later);
  if (left > 0) {
    // Also when this was the last look for now.
    later = setTimeout(showSoon, left);
    return;
  }
  drawn = Date.now();
  charts.update(look, chosen);
}

function header() {
  const present = look.faults.filter(({ status }) => status === "CONFIRMED").length;
  document.title = `${present ? `(${present}) ` : ""}${look.pipeline} · geartrain`;
  say(byId("pipeline"), look.pipeline);
  say(byId("run"), look.run);
  say(byId("health"), look.health);
  set(byId("health"), "data-health", look.health);
  const through = look.channels.reduce((sum, { rate_hz: hz }) => sum + (hz ?? 0), 0);
  facts(byId("facts"), [
    ["processes", count(look.processes.length)],
    ["daemons", count(look.daemons.length)],
    ["channels", count(look.channels.length)],
    ["faults", count(present)],
    ["items", rate(through)],
  ]);
  say(byId("daemon-count"), counted(look.daemons).map(([condition, many]) => `${many} ${condition}`).join(" · "));
  byId("warnings").hidden = !look.warnings.length;
  byId("warnings").replaceChildren(...look.warnings.map((words) => make("li", {}, words)));
  if (feed.state === "open") connection("open");
}

function facts(list, pairs) {
  while (list.children.length > pairs.length) list.lastChild.remove();
  while (list.children.length < pairs.length) list.append(make("div", {}, make("dt"), make("dd")));
  pairs.forEach(([term, value], place) => {
    say(list.children[place].firstChild, term);
    say(list.children[place].lastChild, value);
  });
}

function showChosen() {
  const daemon = look.daemon.get(chosen);
  byId("chosen").hidden = !daemon;
  if (!daemon) return;
  say(byId("chosen-title"), daemon.name);
  facts(byId("chosen-facts"), everything(daemon, look.now));
}

/** What has become bad, or well again, for who does not see the page. */
function announce() {
  const words = [];
  for (const { name, condition } of look.daemons) {
    const before = conditions.get(name);
    if (before !== condition && (BAD.has(condition) || BAD.has(before))) words.push(`${name} is ${condition}`);
    conditions.set(name, condition);
  }
  if (words.length) say(byId("said"), words.join(", "));
}

/** Why there is no stream: perhaps only for want of a token. */
async function refused() {
  try {
    const answer = await fetch(api("live", { once: true }));
    byId("token").hidden = answer.status !== 401;
  } catch {
    // Nobody is there, as the banner says.
  }
}

function connection(state, since) {
  const lost = state === "lost";
  const over = state === "open" && look && !look.alive;
  const banner = byId("banner");
  banner.hidden = !lost && !over;
  set(banner, "data-kind", lost ? "lost" : "over");
  if (lost) say(banner, `Disconnected since ${clock(since)}. ${look ? "What is shown is what was last heard; trying" : "Trying"} again.`);
  if (over) say(banner, "The run is over. What is shown is how it ended.");
  if (!lost) byId("token").hidden = true;
  set(document.body, "data-old", lost);
  log.still = lost;
  say(byId("when"), lost ? "disconnected" : look ? clock(look.now) : "connecting");
}
