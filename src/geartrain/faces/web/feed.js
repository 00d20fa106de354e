// The stream of looks, and what is known of the connection.
//
//     connecting -> open -> (an error, or silence) -> lost, since then -> open again
//
// A stream that breaks or says nothing for too long is given up, and a new one says which look was the last.

import { api } from "./api.js";

const SILENCE_MS = 3000;
const AGAIN_MS = 1000;

export class Feed {
  /** `hear` gets each look, `connection` is told "open" or "lost", and `refused` of an answer that is no stream. */
  constructor(every, { hear, connection, refused }) {
    Object.assign(this, { every, hear, connection, refused });
    this.state = "connecting";
    this.since = Date.now();
    this.last = null;
    this.open();
    setInterval(() => this.watch(), 250);
  }

  open() {
    clearTimeout(this.again);
    this.source?.close();
    this.heard = Date.now();
    this.source = new EventSource(api("live", { every: this.every, last_event_id: this.last }));
    this.source.addEventListener("live", (event) => this.take(event));
    this.source.addEventListener("reset", () => (this.last = null));
    this.source.addEventListener("error", () => this.lose());
  }

  take(event) {
    this.heard = this.since = Date.now();
    this.last = event.lastEventId;
    this.become("open");
    this.hear(JSON.parse(event.data));
  }

  lose() {
    // The browser would try again by itself, but not after an answer that is no stream, and not as soon.
    if (this.source.readyState === EventSource.CLOSED) this.refused();
    this.source.close();
    clearTimeout(this.again);
    this.again = setTimeout(() => this.open(), AGAIN_MS);
    this.become("lost");
  }

  watch() {
    if (this.source.readyState !== EventSource.CLOSED && Date.now() - this.heard > SILENCE_MS) this.lose();
  }

  /** "lost" is since the last look, whenever that is noticed. */
  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.connection(state, this.since / 1000);
  }
}
