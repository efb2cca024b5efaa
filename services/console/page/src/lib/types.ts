// The JSON of the console's API, as the page uses it. Times are milliseconds since the epoch of log time, but for `…_wall_ms`;
// money is in fen. Figures carry the names of the columns of the tables; what is 0 is left out.

export type Figures = Record<string, number>;

export type Severity = "warning" | "major" | "critical";

/** The severities, worst first. */
export const SEVERITIES: readonly Severity[] = ["critical", "major", "warning"];

export type Rule =
  | "buyer_waiting"
  | "conversion_low"
  | "many_waiting"
  | "refund_promise_at_risk"
  | "refund_spike"
  | "replies_slow"
  | "reply_rate_3min_low"
  | "reply_rate_5min_low"
  | "shop_waiting";

export const RULES: readonly Rule[] = [
  "buyer_waiting",
  "many_waiting",
  "shop_waiting",
  "reply_rate_3min_low",
  "reply_rate_5min_low",
  "replies_slow",
  "conversion_low",
  "refund_spike",
  "refund_promise_at_risk",
];

export type OpenAlerts = Record<Severity, number>;

export interface Me {
  user: string;
  role: "viewer" | "supervisor" | "admin" | "agent";
  shops: string[];
  agent: string | null;
  locale_default: "zh" | "en";
}

export interface Waiting {
  buyers: number;
  over_180s: number;
  oldest_since: number | null;
}

export interface HourFigures {
  start: number;
  figures: Figures;
}

export interface ShopLive {
  shop_id: string;
  at: number;
  complete_until: number | null;
  caught_up: boolean;
  sent_wall_ms: number;
  day: string;
  day_start: number;
  utc_offset_minutes: number;
  waiting: Waiting;
  figures: Figures;
  hours: HourFigures[];
  yesterday: HourFigures[];
  open_alerts?: OpenAlerts;
}

export interface AgentLive {
  shop_id: string;
  agent_id: string;
  at: number;
  day: string;
  waiting: Waiting;
  figures: Figures;
  open_alerts?: OpenAlerts;
  /** When these were sent; 0 where it is not known. */
  sent_wall_ms: number;
}

export interface MissedRound {
  buyer_key: string;
  t0: number;
  a0: number;
  ended_at: number | null;
  outcome: string;
}

export interface CreditedOrder {
  order_id: string;
  buyer_key: string;
  created_at: number;
  paid_at: number | null;
  amount_fen: number | null;
  refunded_fen: number;
  rule: string;
  last_touch_at: number | null;
  lag_ms: number | null;
  first_touch_agent: string | null;
  touching_agents: number;
  fake: boolean;
}

export interface AgentDetail {
  shop_id: string;
  agent_id: string;
  at: number;
  day: string;
  hours: HourFigures[];
  missed: MissedRound[];
  orders: CreditedOrder[];
}

export interface CurvePoint {
  minute: number;
  consulting_buyers: number;
  buyer_messages: number;
  orders_paid: number;
  gross_fen: number;
}

export interface Curve {
  shop_id: string;
  hour: number;
  at: number;
  minutes: CurvePoint[];
}

export interface Evidence {
  buyer_key?: string;
  since?: number;
  age_ms?: number;
  t0?: number;
  a0?: number;
  latency_ms?: number | null;
  refund_id?: string;
  order_id?: string;
  requested_at?: number;
}

export interface Transition {
  kind: "firing" | "escalated" | "resolved";
  severity: Severity;
  at: number;
  value_num: number;
  value_den: number;
}

export interface Alert {
  alert_id: string;
  rule: Rule;
  shop_id: string;
  agent_id: string | null;
  severity: Severity;
  state: "firing" | "resolved";
  onset: number;
  fired_at: number;
  resolved_at: number | null;
  at: number;
  value_num: number;
  value_den: number;
  threshold: Record<string, number> | null;
  evidence: Evidence[];
  transitions: Transition[];
  acknowledged: { by: string; at_wall_ms: number; note: string } | null;
}
