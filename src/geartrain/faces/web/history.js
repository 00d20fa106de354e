// What was seen, for as long as the longest chart shows. A row for each look, a column for each figure that was met.

const KEPT_S = 900;
// Looks further apart than this are not joined by a line.
const GAP_S = 3;

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.at = [];
    this.columns = new Map();
  }

  add(look) {
    if (this.at.length && look.now - this.at.at(-1) > GAP_S) this.row(this.at.at(-1) + GAP_S / 2);
    const row = this.row(look.now);
    for (const channel of look.channels) {
      this.put(row, `rate:${channel.name}`, channel.rate_hz);
      this.put(row, `share:${channel.name}`, channel.share * 100);
    }
    for (const daemon of look.daemons) {
      this.put(row, `flow:${daemon.name}`, daemon.flow);
      if (!daemon.cycles) continue;
      this.put(row, `body:${daemon.name}`, daemon.last_s);
      this.put(row, `late:${daemon.name}`, daemon.lateness_s);
    }
    this.forget(look.now - KEPT_S);
  }

  row(at) {
    for (const column of this.columns.values()) column.push(null);
    return this.at.push(at) - 1;
  }

  put(row, name, value) {
    if (value === null || value === undefined) return;
    if (!this.columns.has(name)) this.columns.set(name, new Array(row + 1).fill(null));
    this.columns.get(name)[row] = value;
  }

  forget(before) {
    // Not at each look: cutting the front of long arrays costs.
    if (this.at[0] >= before - 60) return;
    const old = this.at.findIndex((at) => at >= before);
    this.at.splice(0, old);
    for (const column of this.columns.values()) column.splice(0, old);
  }

  /** The times since then, and a column for each name. */
  since(from, names) {
    let first = this.at.length;
    while (first > 0 && this.at[first - 1] >= from) first -= 1;
    const nothing = () => new Array(this.at.length - first).fill(null);
    return [this.at.slice(first), ...names.map((name) => this.columns.get(name)?.slice(first) ?? nothing())];
  }

  /** The mean of a figure since then, or null. */
  mean(name, from) {
    const [, values] = this.since(from, [name]);
    const known = values.filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  }
}
