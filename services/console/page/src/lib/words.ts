// Alerts and credits in words: how bad, measured against what, on what grounds; and why an order is this agent's.

import { buyer, clock, count, duration, latency, percent, timeOfDay, type Lang } from "./format";
import type { T } from "./i18n";
import type { Alert, CreditedOrder, Evidence, Rule, Severity } from "./types";

/** The language, its translator, and the shop's offset from UTC in minutes. */
export interface Speech {
  t: T;
  lang: Lang;
  offset: number;
}

type Unit = "ms" | "count" | "percent";
type Comparison = "level.at_least" | "level.more" | "level.less" | "level.at_most";

/** How the levels of a rule are compared and counted; the two refund rules have sentences of their own. */
const LEVELS: Partial<Record<Rule, { unit: Unit; fires: Comparison; resolves: string; min?: string }>> = {
  buyer_waiting: { unit: "ms", fires: "level.at_least", resolves: "<" },
  many_waiting: { unit: "count", fires: "level.more", resolves: "≤" },
  shop_waiting: { unit: "count", fires: "level.more", resolves: "≤" },
  reply_rate_3min_low: { unit: "percent", fires: "level.less", resolves: "≥", min: "min_rounds" },
  reply_rate_5min_low: { unit: "percent", fires: "level.at_most", resolves: ">", min: "min_chains" },
  replies_slow: { unit: "ms", fires: "level.more", resolves: "≤", min: "min_replies" },
  conversion_low: { unit: "percent", fires: "level.less", resolves: "≥", min: "min_buyers" },
};

const ASCENDING: readonly Severity[] = ["warning", "major", "critical"];

/** The value of an alert, or of one of its transitions. */
export function valueText(speech: Speech, rule: Rule, num: number, den: number): string {
  const { t, lang } = speech;
  const quotient = den === 0 ? null : num / den;
  // The value of a mean is a sum over a number; of a wait, milliseconds over 1.
  const age = rule === "replies_slow" ? latency(quotient, lang) : clock(num);
  return t(`value.${rule}`, {
    age,
    n: count(num, lang),
    num: count(num, lang),
    den: count(den, lang),
    rate: percent(quotient, lang),
  });
}

function amount(speech: Speech, value: number, unit: Unit): string {
  if (unit === "ms") return duration(value, speech.lang);
  return unit === "percent" ? `${value}%` : count(value, speech.lang);
}

/** The thresholds of an alert in words; null where the policy is not known. */
export function thresholdText(speech: Speech, alert: Pick<Alert, "rule" | "threshold">): string | null {
  const { t } = speech;
  const knobs = alert.threshold;
  if (!knobs) return null;
  const of = (name: string) => knobs[name] ?? NaN;
  const parts: string[] = [];
  const levels = LEVELS[alert.rule];
  if (alert.rule === "refund_spike") {
    parts.push(t("level.refund_spike", { min: of("min_refunds"), times: of("times_base"), orders: of("orders_per_refund") }));
  } else if (alert.rule === "refund_promise_at_risk") {
    parts.push(t("level.refund_promise", { warning: of("warning"), major: of("major"), critical: of("critical") }));
  } else if (levels) {
    for (const severity of ASCENDING) {
      const level = knobs[severity];
      if (level === undefined) continue;
      parts.push(t(levels.fires, { value: amount(speech, level, levels.unit), severity: t(`severity.${severity}`) }));
    }
    const least = levels.min === undefined ? undefined : knobs[levels.min];
    if (least !== undefined) parts.push(t("level.min", { n: least }));
    const resolve = knobs["resolve"];
    if (resolve !== undefined) parts.push(t("level.resolve", { op: levels.resolves, value: amount(speech, resolve, levels.unit) }));
  }
  const hold = knobs["for"];
  if (hold !== undefined && hold > 0) parts.push(t("level.for", { age: duration(hold, speech.lang) }));
  return parts.join(speech.lang === "zh" ? "；" : "; ");
}

/** One piece of evidence in words; null if it is of no known kind. */
export function evidenceText(speech: Speech, evidence: Evidence): string | null {
  const { t, lang, offset } = speech;
  const time = (ms: number) => timeOfDay(ms, offset);
  const key = buyer(evidence.buyer_key ?? "");
  if (evidence.refund_id !== undefined && evidence.requested_at !== undefined) {
    const values = { refund: evidence.refund_id, time: time(evidence.requested_at), age: duration(evidence.age_ms ?? 0, lang) };
    return evidence.order_id === undefined ? t("evidence.refund", values) : t("evidence.refund_order", { ...values, order: evidence.order_id });
  }
  if (evidence.since !== undefined) {
    return t("evidence.waiting", { buyer: key, time: time(evidence.since), age: clock(evidence.age_ms ?? 0) });
  }
  if (evidence.t0 !== undefined) {
    const at = time(evidence.a0 ?? evidence.t0);
    if (evidence.latency_ms === null || evidence.latency_ms === undefined) return t("evidence.round_open", { buyer: key, time: at });
    return t("evidence.round", { buyer: key, time: at, age: latency(evidence.latency_ms, lang) });
  }
  return null;
}

/** Why an order is this agent's and not another's, in one or two sentences. */
export function creditText(speech: Speech, agent: string, order: CreditedOrder): string {
  const { t, lang, offset } = speech;
  const decided = order.rule === "before_payment" ? order.paid_at : order.created_at;
  const touched = order.last_touch_at;
  if (touched === null || decided === null || (order.rule !== "before_order" && order.rule !== "before_payment")) {
    return t("why.unknown", { agent, rule: order.rule });
  }
  const lag = duration(order.lag_ms ?? decided - touched, lang);
  const sentences = [t(`why.${order.rule}`, { agent, lag, time: timeOfDay(touched, offset) })];
  if (order.rule === "before_order") sentences.push(others(speech, agent, order));
  return sentences.join(lang === "zh" ? "" : " ");
}

function others({ t }: Speech, agent: string, order: CreditedOrder): string {
  if (order.touching_agents <= 1) return t("why.only");
  if (order.first_touch_agent === null || order.first_touch_agent === agent) {
    return t("why.first_self", { agent, others: order.touching_agents - 1 });
  }
  return t("why.first_other", { agent, first: order.first_touch_agent, n: order.touching_agents });
}
