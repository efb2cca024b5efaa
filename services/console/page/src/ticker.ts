// One animation frame for everything on the page that runs: clocks of waits and ages.
//
// However many clocks there are, there is one callback, it changes only texts that differ, and it looks at them ten times a
// second, which a clock of seconds needs to seem steady.

export type Tick = (nowMs: number) => void;

/** How often clocks are looked at (ms). */
const STEP_MS = 100;

const ticks = new Set<Tick>();
let frame = 0;
let last = 0;

function run(nowMs: number): void {
  frame = ticks.size > 0 ? requestAnimationFrame(run) : 0;
  if (nowMs - last < STEP_MS) return;
  last = nowMs;
  for (const tick of ticks) tick(nowMs);
}

/** Calls `tick` with the time of `performance.now()` until the returned function is called; once at once. */
export function every(tick: Tick): () => void {
  ticks.add(tick);
  tick(performance.now());
  if (frame === 0) frame = requestAnimationFrame(run);
  return () => {
    ticks.delete(tick);
  };
}
