// The last lines of one process. It stays at the end while somebody looks at the end, and still while they read above.

import { api } from "./api.js";
import { byId, make, say } from "./dom.js";

const LINES = 200;
const AGAIN_MS = 1000;

export class Log {
  constructor() {
    this.select = byId("log-process");
    this.place = byId("log-lines");
    this.select.addEventListener("change", () => this.change());
    this.processes = [];
    setInterval(() => this.look(), AGAIN_MS);
  }

  of(processes) {
    if (processes.join("\n") === this.processes.join("\n")) return;
    this.processes = processes;
    const chosen = this.select.value;
    this.select.replaceChildren(...processes.map((name) => make("option", { value: name }, name)));
    if (processes.includes(chosen)) this.select.value = chosen;
    else this.change();
  }

  choose(process) {
    if (!this.processes.includes(process) || this.select.value === process) return;
    this.select.value = process;
    this.change();
  }

  change() {
    this.shown = null;
    this.place.replaceChildren();
    this.look();
  }

  async look() {
    const process = this.select.value;
    if (!process || document.hidden || this.still || this.busy) return;
    this.busy = true;
    try {
      const answer = await fetch(api("logs", { process, tail: LINES }));
      if (!answer.ok) throw new Error(`the log cannot be read: ${answer.status} ${answer.statusText}`);
      const text = await answer.text();
      if (process === this.select.value && text !== this.shown) this.show(text);
    } catch (error) {
      say(byId("log-note"), error.message);
    } finally {
      this.busy = false;
    }
    if (process !== this.select.value) this.look();
  }

  show(text) {
    this.shown = text;
    const { lines } = JSON.parse(text);
    const atEnd = this.place.scrollHeight - this.place.scrollTop - this.place.clientHeight < 24;
    this.place.replaceChildren(...lines.map(({ stream, text: line }) =>
      make("p", { class: stream }, make("span", { class: "stream" }, stream === "err" ? "err" : ""), line || " ")));
    if (atEnd) this.place.scrollTop = this.place.scrollHeight;
    say(byId("log-note"), lines.length ? "" : "It has written nothing yet.");
  }
}
