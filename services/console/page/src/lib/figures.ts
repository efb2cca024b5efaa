// Figures out of the columns, by the metric definitions: always numerators and denominators first, then the division.
//
// Every figure shown is one of these, so that the page invents none; `name` and `raw` go into the page beside the text, where
// a test (or a doubting reader) can compare them with the API.

import type { Figures, HourFigures } from "./types";

/** A figure: a column, or the quotient of two. */
export interface Figure {
  /** A column, or `column/column`. */
  name: string;
  /** Its value as an integer, or `integer/integer`. */
  raw: string;
  /** The number to show, in the unit of the columns; null where it is not defined (0 ÷ 0, or no percentile). */
  value: number | null;
}

/** Columns that are null, not 0, where they are missing. */
const UNDEFINED_WHEN_MISSING = /^latency_(max|p\d+)_ms$/;

/** A column as it stands. */
export function column(figures: Figures, name: string): Figure {
  const value = figures[name] ?? (UNDEFINED_WHEN_MISSING.test(name) ? null : 0);
  return { name, raw: value === null ? "" : String(value), value };
}

/** The quotient of two columns. */
export function ratio(figures: Figures, numerator: string, denominator: string): Figure {
  const [num, den] = [figures[numerator] ?? 0, figures[denominator] ?? 0];
  return { name: `${numerator}/${denominator}`, raw: `${num}/${den}`, value: den === 0 ? null : num / den };
}

/** 3-minute reply rate. */
export const replyRate = (figures: Figures): Figure => ratio(figures, "replied_within_180s", "rounds");

/** Average reply time, ms. */
export const averageReply = (figures: Figures): Figure => ratio(figures, "latency_sum_ms", "replied");

/** Inquiry conversion so far: buyers who paid on the day of their inquiry. */
export const conversion = (figures: Figures): Figure => ratio(figures, "paid_1d", "inquiry_buyers");

/** A minute (ms). */
export const MINUTE_MS = 60_000;

/** An hour (ms). */
export const HOUR_MS = 3_600_000;

/** A day (ms). */
export const DAY_MS = 86_400_000;

/** The same part of two days: today so far, and yesterday's full hours until then with a share of the hour that is running. */
export interface SameHours {
  /** Up to when (ms). */
  until: number;
  today: Figures;
  yesterday: Figures;
}

/** Columns that add up over hours, and that mean the same while the day runs as afterwards. */
const COMPARED = [
  "rounds",
  "replied",
  "replied_within_180s",
  "latency_sum_ms",
  "buyer_messages",
  "inquiry_buyers",
  "orders_paid",
  "gross_fen",
  "refunds",
  "refund_fen",
] as const;

/** Adds up the columns that can be compared, until `until`: of an hour that is not over by then, a share by the time that has passed. */
function sum(hours: HourFigures[], until: number): Figures {
  const total: Figures = {};
  for (const hour of hours) {
    const share = Math.min(1, Math.max(0, (until - hour.start) / HOUR_MS));
    for (const name of COMPARED) total[name] = (total[name] ?? 0) + share * (hour.figures[name] ?? 0);
  }
  for (const name of COMPARED) total[name] = Math.round(total[name] ?? 0);
  return total;
}

/**
 * Today against yesterday at the same time, the running hour included: the peak itself is in the first hour of a day. Null in the first
 * minute, of which nothing can be said yet, or where yesterday is not known.
 */
export function sameHours(at: number, dayStart: number, hours: HourFigures[], yesterday: HourFigures[]): SameHours | null {
  const until = Math.min(at, dayStart + DAY_MS);
  if (until - dayStart < MINUTE_MS || yesterday.length === 0) return null;
  // Today's running hour holds what it holds, which is all that has passed of it.
  return { until, today: sum(hours, dayStart + DAY_MS), yesterday: sum(yesterday, until - DAY_MS) };
}
