// Curves by the minute, as they are drawn.

import { MINUTE_MS } from "./figures";
import type { Curve } from "./types";

/** The newest minutes that are drawn. */
export const MINUTES_MAX = 360;

/** Minute curves with a point for every minute, 0 where nothing happened; x in seconds, in the shop's local time, `from` the first of them in ms. */
export function curveData(curves: ReadonlyMap<number, Curve>, untilMs: number, offsetMinutes: number) {
  const points = [...curves.values()].flatMap((curve) => curve.minutes.map((point) => ({ ...point, at: curve.hour + point.minute * MINUTE_MS })));
  const x: number[] = [];
  const [inquiries, orders, fen]: [number[], number[], number[]] = [[], [], []];
  if (points.length === 0) return { from: null, x, inquiries, orders, fen };
  const byMinute = new Map(points.map((point) => [point.at, point]));
  const last = Math.max(Math.floor(untilMs / MINUTE_MS) * MINUTE_MS, ...points.map((point) => point.at));
  const first = Math.max(Math.min(...points.map((point) => point.at)), last - (MINUTES_MAX - 1) * MINUTE_MS);
  for (let at = first; at <= last; at += MINUTE_MS) {
    const point = byMinute.get(at);
    x.push(at / 1_000 + offsetMinutes * 60);
    inquiries.push(point?.consulting_buyers ?? 0);
    orders.push(point?.orders_paid ?? 0);
    fen.push(point?.gross_fen ?? 0);
  }
  return { from: first, x, inquiries, orders, fen };
}
