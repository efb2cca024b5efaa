// Clocks: the log's, run on between messages, and the servers'.
//
// A shop says every second what time it is in its log. In between, and for clocks that tick, time runs on from there at the
// rate observed so far: 1 in life, more in a simulation, 0 while the log stands still. It never runs on for longer than it is
// allowed to without news, so that a lost connection does not invent waits; and it steps back only where the log did.
//
// The servers' wall clock is here too; it tells how old figures are, and nothing about what happens in the shop.

/** For how long time runs on without news of a source that is heard from every second (ms of the wall). */
export const RUN_ON_MS = 5_000;

/** Over how much wall time the rate is observed (ms). */
const WINDOW_MS = 10_000;

interface Sample {
  at: number;
  sentWallMs: number;
}

export class LogClock {
  #samples: Sample[] = [];
  #receivedMs = 0;
  #shown = 0;
  /** For how long time runs on without news (ms of the wall). */
  runOnMs = RUN_ON_MS;

  /** Takes in that the log's time was `at` when the sender's clock was `sentWallMs`; received at `nowMs` of our own clock. */
  observe(at: number, sentWallMs: number, nowMs: number): void {
    const last = this.#samples[this.#samples.length - 1];
    if (last && sentWallMs <= last.sentWallMs) return;
    if (last && at < last.at) this.reset();
    this.#samples.push({ at, sentWallMs });
    this.#receivedMs = nowMs;
    while (this.#samples.length > 2 && sentWallMs - this.#samples[0]!.sentWallMs > WINDOW_MS) this.#samples.shift();
  }

  /** Forgets everything: another shop, or a log that began anew. */
  reset(): void {
    this.#samples = [];
    this.#shown = 0;
  }

  /** Log milliseconds per wall millisecond, never negative; 1 until there is something to go by. */
  get rate(): number {
    const first = this.#samples[0];
    const last = this.#samples[this.#samples.length - 1];
    if (!first || !last || last.sentWallMs <= first.sentWallMs) return 1;
    return Math.max(0, (last.at - first.at) / (last.sentWallMs - first.sentWallMs));
  }

  /** Allows time to run on for `forMs` from `nowMs` of our own clock, however long ago the last message was. */
  runOn(nowMs: number, forMs: number): void {
    this.runOnMs = Math.max(0, nowMs - this.#receivedMs) + forMs;
  }

  /** Present log time (ms) at `nowMs` of our own clock; null before the first message. */
  now(nowMs: number): number | null {
    const last = this.#samples[this.#samples.length - 1];
    if (!last) return null;
    const elapsed = Math.min(Math.max(0, nowMs - this.#receivedMs), this.runOnMs);
    const computed = last.at + elapsed * this.rate;
    // A message that comes a little early must not turn a clock back.
    const slack = 2_000 * Math.max(1, this.rate);
    this.#shown = computed < this.#shown && this.#shown - computed < slack ? this.#shown : computed;
    return this.#shown;
  }
}

/** The wall clock of the servers, from the clock of their answers: by it figures have an age, however wrong our own is. */
export class ServerClock {
  #offset: number | null = null;

  /** An answer of `wallMs` came at `nowMs` of our own clock. */
  observe(wallMs: number, nowMs: number): void {
    this.#offset = wallMs - nowMs;
  }

  /** Age (ms) at `nowMs` of figures that were sent at `sentWallMs`, not of the last answer; null where there are none. */
  ageMs(sentWallMs: number | null, nowMs: number): number | null {
    if (sentWallMs === null || this.#offset === null) return null;
    return Math.max(0, nowMs + this.#offset - sentWallMs);
  }
}
