// The faults: those that are, and, folded away, those that are over.

import { byId, keep, make, say, set, shape } from "./dom.js";
import { clock, count, long } from "./shown.js";

// A death that was healed at once is to be seen all the same.
const LINGERS_S = 30;
const OVER = new Set(["HEALED", "CLEARED"]);
const SHAPES = ["info", "stale", "faulted", "dead"];

export class Faults {
  constructor(choose) {
    this.choose = choose;
    this.now = new Map();
    this.were = new Map();
  }

  show(look) {
    const key = (fault) => `${fault.entity} ${fault.fault_code}`;
    const isOld = ({ status, last_occurred: last }) => OVER.has(status) && look.now - last > LINGERS_S;
    const present = look.faults.filter((fault) => !isOld(fault));
    const over = look.faults.filter(isOld);
    const isOver = ({ status }) => Number(OVER.has(status));
    present.sort((a, b) => isOver(a) - isOver(b) || b.severity - a.severity || b.last_occurred - a.last_occurred);
    over.sort((a, b) => b.last_occurred - a.last_occurred);
    this.list(byId("fault-list"), present, this.now, key, look.now);
    this.list(byId("healed-list"), over, this.were, key, look.now);
    set(byId("fault-list"), "data-none", present.length ? null : "");
    byId("healed").hidden = !over.length;
    say(byId("healed").querySelector("summary"), `${count(over.length)} healed or cleared`);
  }

  list(place, faults, known, key, now) {
    keep(place, faults.map(key), known, () => this.item());
    for (const fault of faults) this.update(known.get(key(fault)), fault, now);
  }

  item() {
    const parts = {
      mark: shape("faulted"), label: make("b", { class: "severity" }), code: make("code"), entity: make("button", { type: "button", class: "name" }),
      words: make("p"), since: make("span"), count: make("span"),
    };
    parts.entity.addEventListener("click", () => this.choose(parts.entity.textContent));
    return Object.assign(
      make("li", {}, make("p", { class: "top" }, parts.mark, parts.label, parts.entity, parts.code), parts.words, make("p", { class: "quiet" }, parts.since, parts.count)),
      { parts });
  }

  update(item, fault, now) {
    const { mark, label, code, entity, words, since, count: times } = item.parts;
    const over = OVER.has(fault.status);
    mark.look(over ? "healed" : SHAPES[fault.severity] ?? "faulted");
    set(item, "data-severity", over ? 0 : fault.severity);
    say(label, over ? fault.status.toLowerCase() : fault.severity_label);
    say(code, fault.fault_code);
    say(entity, fault.entity);
    say(words, fault.description);
    const first = `since ${clock(fault.first_occurred)}, ${long(now - fault.first_occurred)}`;
    say(since, over ? `last at ${clock(fault.last_occurred)}` : fault.status === "PREFAILED" ? `${first}, not confirmed` : first);
    say(times, `${count(fault.occurrence_count)} ${fault.occurrence_count === 1 ? "time" : "times"}`);
  }
}
