// Who needs help, in an order that holds still.
//
// The worst open alert comes first, then the oldest wait, then the number of buyers who wait. The age of a wait counts in
// bands, and within a band an agent keeps the place it had: an order by exact ages would shuffle with every answer, and rows
// would jump away under the pointer.

import { SEVERITIES, type AgentLive, type OpenAlerts, type Severity } from "./types";
import { averageReply, conversion, replyRate } from "./figures";

/** Lower ends of the bands of age (ms). */
const BANDS_MS = [30_000, 60_000, 100_000, 180_000, 300_000, 600_000];

/** The band of a wait's age: 0 without a wait, then counted up. */
export function ageBand(oldestSince: number | null, now: number): number {
  if (oldestSince === null) return 0;
  const age = now - oldestSince;
  return 1 + BANDS_MS.filter((from) => age >= from).length;
}

/** The worst severity with an open alert. */
export function worst(open: OpenAlerts | undefined): Severity | null {
  return SEVERITIES.find((severity) => (open?.[severity] ?? 0) > 0) ?? null;
}

/** 0 without an alert, 3 for a critical one. */
export function severityRank(severity: Severity | null): number {
  return severity === null ? 0 : SEVERITIES.length - SEVERITIES.indexOf(severity);
}

export type SortBy = "help" | "name" | "rate" | "conversion" | "amount";

export const SORTS: readonly SortBy[] = ["help", "rate", "conversion", "amount", "name"];

/** What an order is made of. */
export interface Ranked {
  agent: AgentLive;
  open: OpenAlerts | undefined;
}

const names = new Intl.Collator("zh", { numeric: true });

/** Missing values sort last, whichever way. */
function byNumber(a: number | null, b: number | null, direction: 1 | -1): number {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return direction * (a - b);
}

function compare(by: SortBy, now: number, a: Ranked, b: Ranked): number {
  const [x, y] = [a.agent.figures, b.agent.figures];
  switch (by) {
    case "help":
      return (
        severityRank(worst(b.open)) - severityRank(worst(a.open)) ||
        ageBand(b.agent.waiting.oldest_since, now) - ageBand(a.agent.waiting.oldest_since, now)
      );
    case "rate":
      return byNumber(replyRate(x).value, replyRate(y).value, 1) || byNumber(averageReply(x).value, averageReply(y).value, -1);
    case "conversion":
      return byNumber(conversion(x).value, conversion(y).value, -1);
    case "amount":
      return (y["gross_fen"] ?? 0) - (x["gross_fen"] ?? 0);
    case "name":
      return names.compare(a.agent.agent_id, b.agent.agent_id);
  }
}

/** Ids of agents in the order asked for; equal ones in the order of `previous`, new ones by waiting buyers and name behind them. */
export function order(agents: Ranked[], by: SortBy, now: number, previous: readonly string[]): string[] {
  const place = new Map(previous.map((id, index) => [id, index]));
  const fresh = (a: Ranked, b: Ranked) =>
    (by === "help" ? b.agent.waiting.buyers - a.agent.waiting.buyers : 0) || names.compare(a.agent.agent_id, b.agent.agent_id);
  const held = (a: Ranked, b: Ranked) => {
    const [x, y] = [place.get(a.agent.agent_id), place.get(b.agent.agent_id)];
    if (x === undefined && y === undefined) return fresh(a, b);
    return (x ?? Infinity) - (y ?? Infinity);
  };
  const sorted = [...agents].sort((a, b) => compare(by, now, a, b) || held(a, b));
  return sorted.map((entry) => entry.agent.agent_id);
}

/** The order while it is held: the ids of `previous` that still exist, then new ones by name. */
export function keep(agents: Ranked[], previous: readonly string[]): string[] {
  const ids = new Set(agents.map((entry) => entry.agent.agent_id));
  const known = new Set(previous);
  const fresh = [...ids].filter((id) => !known.has(id)).sort(names.compare);
  return [...previous.filter((id) => ids.has(id)), ...fresh];
}

/** The group in an agent's id: what stands before the last `:`, `-`, `_`, `/` or `.`; null without one. */
export function groupOf(agentId: string): string | null {
  const at = Math.max(...[":", "：", "-", "_", "/", "."].map((separator) => agentId.lastIndexOf(separator)));
  return at > 0 && at < agentId.length - 1 ? agentId.slice(0, at) : null;
}

/** The groups of a shop that have at least one agent, by name. */
export function groups(agentIds: Iterable<string>): string[] {
  const found = new Set<string>();
  for (const id of agentIds) {
    const group = groupOf(id);
    if (group !== null) found.add(group);
  }
  return [...found].sort(names.compare);
}

/** Whether an agent is in the group and has the searched text in its id. */
export function matches(agentId: string, group: string, search: string): boolean {
  if (group !== "" && groupOf(agentId) !== group) return false;
  return agentId.toLowerCase().includes(search.trim().toLowerCase());
}
