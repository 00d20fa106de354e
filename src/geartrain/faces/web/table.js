// A table whose rows stay what they are while their figures change, that is sorted by any column, and that becomes a
// list of cards where it is narrow. Its roles are said, because a table that is laid out otherwise loses them.

import { keep, make, set } from "./dom.js";

// From so many rows on they are low, and scroll by themselves.
const DENSE = 14;

/** A column: `key`, `title`, `hint`; `of(row)` what it is sorted by; `make()` its content and `update(content, row)`. */
export class Table {
  constructor(place, name, columns, key) {
    this.place = place;
    this.name = name;
    this.columns = columns;
    this.key = key;
    this.rows = new Map();
    this.sorted = null;
    this.heads = columns.map((column) => this.head(column));
    this.body = make("tbody", { role: "rowgroup" });
    this.order = make("select", {}, make("option", { value: "" }, "as in the pipeline"), ...columns.filter((column) => column.of).map((column) => make("option", { value: column.key }, column.title)));
    this.order.addEventListener("change", () => this.sort(this.order.value || null, 1));
    place.append(
      make("label", { class: "order" }, "Sorted by ", this.order),
      make("table", { role: "table", "aria-label": name },
        make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...this.heads)), this.body));
  }

  head(column) {
    const head = make("th", { role: "columnheader", scope: "col", class: column.class, title: column.hint });
    if (!column.of) {
      head.append(column.title);
      return head;
    }
    const button = make("button", { type: "button" }, column.title);
    // Once from the worst or the greatest, once the other way, then again as in the pipeline.
    button.addEventListener("click", () => {
      const [now, way] = this.sorted === column.key ? [true, this.way] : [false, 0];
      this.sort(now && way < 0 ? null : column.key, now ? -1 : 1);
    });
    head.append(button);
    return head;
  }

  sort(key, way) {
    this.sorted = key;
    this.way = way;
    this.order.value = key ?? "";
    this.columns.forEach((column, place) => {
      set(this.heads[place], "aria-sort", column.key === key ? (way > 0 ? "descending" : "ascending") : null);
    });
    if (this.shown) this.show(this.shown);
  }

  show(rows) {
    this.shown = rows;
    const dense = rows.length > DENSE;
    set(this.place, "class", dense ? "dense" : null);
    // What scrolls must be reached by keys.
    set(this.place, "tabindex", dense ? "0" : null);
    set(this.place, "role", dense ? "group" : null);
    set(this.place, "aria-label", dense ? this.name : null);
    const column = this.columns.find(({ key }) => key === this.sorted);
    const inOrder = column ? [...rows].sort((a, b) => this.way * compare(column.of(b), column.of(a))) : rows;
    const known = this.rows;
    keep(this.body, inOrder.map(this.key), known, () => this.row());
    for (const row of inOrder) {
      const element = known.get(this.key(row));
      this.columns.forEach((each, place) => each.update(element.contents[place], row, element));
    }
  }

  row() {
    const row = make("tr", { role: "row" });
    row.contents = this.columns.map((column) => {
      const content = column.make?.() ?? make("span");
      row.append(make(column.heads ? "th" : "td", {
        role: column.heads ? "rowheader" : "cell", scope: column.heads ? "row" : null, class: column.class, "data-title": column.title,
      }, content));
      return content;
    });
    return row;
  }
}

function compare(a, b) {
  if (typeof a === "string") return b < a ? 1 : b > a ? -1 : 0;
  return (a ?? -Infinity) - (b ?? -Infinity);
}
