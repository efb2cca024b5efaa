// The open alerts that the page holds: a snapshot asked for, and what the event stream says before, meanwhile and afterwards.
//
//   begin ──► snapshot, in one answer or many ──► replace: the snapshot, then what was heard since begin, replayed
//                 events ──► take: at once, and kept for the replay while a snapshot is on its way
//
// What always holds: an event heard while a snapshot is asked for is never undone by it; at most `most` alerts are held, the mildest
// are left out first, and `isCut` says so. An alert that has resolved never opens again: its id holds its onset.

import type { AlertQuery } from "./api";
import { severityRank } from "./rank";
import { SEVERITIES, type Alert } from "./types";

/** Open alerts the page holds at most; more than every rule for each agent of a large shift. */
export const HELD_MAX = 3_000;

/** Alerts of one answer, as many as the API gives. */
const ANSWER_MAX = 1_000;

/** Worst first, then the one that has been open the longest. */
export function worstFirst(a: Alert, b: Alert): number {
  return severityRank(b.severity) - severityRank(a.severity) || a.onset - b.onset;
}

export interface Snapshot {
  alerts: Alert[];
  /** Whether there are more, none of them worse. */
  isCut: boolean;
}

/** All open alerts of a question (shop, agent, rule, severity), or the worst `most` of them, in as many answers as that takes. */
export async function openAlerts(ask: (query: AlertQuery) => Promise<{ alerts: Alert[]; next: string | null }>, of: AlertQuery, most = HELD_MAX): Promise<Snapshot> {
  const query: AlertQuery = { ...of, state: "open", limit: ANSWER_MAX };
  const all = await ask(query);
  if (all.next === null && all.alerts.length <= most) return { alerts: all.alerts, isCut: false };
  // Answers are in order of time; one severity after the other, the worst are there before there is no more room.
  const found = new Map<string, Alert>();
  const severities: readonly string[] = of.severity ? [of.severity] : SEVERITIES;
  for (const severity of severities) {
    let before: string | null = "";
    do {
      const answer: { alerts: Alert[]; next: string | null } = await ask({ ...query, severity, before });
      for (const alert of answer.alerts) {
        if (found.size === most && !found.has(alert.alert_id)) return { alerts: [...found.values()], isCut: true };
        found.set(alert.alert_id, alert);
      }
      before = answer.next;
    } while (before !== null);
  }
  return { alerts: [...found.values()], isCut: false };
}

/** The `most` open alerts of a question that are worst, worst first. */
export async function worstOpen(ask: (query: AlertQuery) => Promise<{ alerts: Alert[]; next: string | null }>, of: AlertQuery, most: number): Promise<Alert[]> {
  const { alerts, next } = await ask({ ...of, state: "open", limit: most });
  // Answers are in order of time: where there are more, the worst of all need not be among the newest.
  const open = next === null ? alerts : (await openAlerts(ask, of)).alerts;
  return open.sort(worstFirst).slice(0, most);
}

export class AlertBook {
  #held: ReadonlyMap<string, Alert> = new Map();
  /** The newest word on each alert heard while a snapshot is on its way. */
  #heard: Map<string, Alert> | null = null;
  #isCut = false;

  constructor(readonly most = HELD_MAX) {}

  /** Open alerts by id; another map after every change. */
  get held(): ReadonlyMap<string, Alert> {
    return this.#held;
  }

  /** Whether some are left out, none of them worse than those held. */
  get isCut(): boolean {
    return this.#isCut;
  }

  /** Whether so many have resolved since some were left out that these should be asked for. */
  get hasRoomAgain(): boolean {
    return this.#isCut && this.#held.size < this.most * 0.9;
  }

  /** A snapshot is about to be asked for. */
  begin(): void {
    this.#heard = new Map();
  }

  /** The snapshot has come. */
  replace({ alerts, isCut }: Snapshot): void {
    const heard = this.#heard ?? new Map<string, Alert>();
    this.#heard = null;
    const next = new Map(alerts.map((alert) => [alert.alert_id, alert]));
    this.#isCut = isCut;
    for (const alert of heard.values()) this.#put(next, alert);
    this.#held = next;
  }

  /** Takes an event in; whether its alert was not known before. */
  take(alert: Alert): boolean {
    this.#heard?.set(alert.alert_id, alert);
    const isNew = !this.#held.has(alert.alert_id);
    const next = new Map(this.#held);
    this.#put(next, alert);
    this.#held = next;
    return isNew;
  }

  #put(alerts: Map<string, Alert>, alert: Alert): void {
    const known = alerts.get(alert.alert_id);
    if (alert.state === "resolved") alerts.delete(alert.alert_id);
    else if (!known || alert.at >= known.at) alerts.set(alert.alert_id, alert);
    if (alerts.size <= this.most) return;
    const mildest = [...alerts.values()].reduce((last, other) => (worstFirst(last, other) < 0 ? other : last));
    alerts.delete(mildest.alert_id);
    this.#isCut = true;
  }
}
