import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { LogClock, RUN_ON_MS, ServerClock } from "../src/lib/clock";
import { curveData, MINUTES_MAX } from "../src/lib/curve";
import { averageReply, column, conversion, DAY_MS, HOUR_MS, MINUTE_MS, replyRate, sameHours } from "../src/lib/figures";
import { change, clock, count, duration, hourMinute, latency, money, moneyShort, NONE, percent, points, timeOfDay } from "../src/lib/format";
import { en, pickLanguage, translate, zh, type Key } from "../src/lib/i18n";
import { ageBand, groupOf, groups, keep, matches, order, worst, type Ranked } from "../src/lib/rank";
import type { AgentLive, Alert, CreditedOrder, Figures, OpenAlerts } from "../src/lib/types";
import { RULES } from "../src/lib/types";
import { parse, paths } from "../src/lib/route";
import { creditText, evidenceText, thresholdText, valueText, type Speech } from "../src/lib/words";

const speech = (lang: "zh" | "en"): Speech => ({ lang, t: (key, values) => translate(lang, key, values), offset: 480 });

describe("texts", () => {
  const holes = (text: string) => [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1]).sort();

  it("are in both languages, with the same values to fill in", () => {
    assert.deepEqual(Object.keys(zh).sort(), Object.keys(en).sort());
    for (const key of Object.keys(zh) as Key[]) {
      assert.notEqual(zh[key], "", key);
      assert.notEqual(en[key], "", key);
      // A sentence may leave a value out where its language does not need it, but never ask for one nobody gives.
      assert.deepEqual(new Set(holes(en[key])), new Set(holes(zh[key])), key);
    }
  });

  it("are there for every rule", () => {
    for (const rule of RULES) {
      assert.ok(`rule.${rule}` in zh, rule);
      assert.ok(`value.${rule}` in zh, rule);
    }
  });

  it("fill in what is given and leave the rest", () => {
    assert.equal(translate("en", "floor.count", { shown: 3, all: 40 }), "3 of 40 agents");
    assert.equal(translate("en", "floor.count", { shown: 3 }), "3 of {all} agents");
  });

  it("are in the browser's language, or the deployment's", () => {
    assert.equal(pickLanguage(["zh-TW", "en"], "en"), "zh");
    assert.equal(pickLanguage(["de-DE", "en-GB"], "zh"), "en");
    assert.equal(pickLanguage(["de"], "en"), "en");
    assert.equal(pickLanguage([], "zh"), "zh");
  });
});

describe("formats", () => {
  it("show money in yuan with two decimals, shorter where it is large", () => {
    assert.equal(money(123_450, "zh"), "¥1,234.50");
    assert.equal(money(-5, "zh"), "-¥0.05");
    assert.equal(moneyShort(999_999, "zh"), "¥9,999.99");
    assert.equal(moneyShort(1_000_000, "zh"), "¥1.00万");
    assert.equal(moneyShort(1_234_567_800_000, "zh"), "¥123.46亿");
    assert.equal(moneyShort(999_999, "en"), "¥9,999.99");
    assert.equal(moneyShort(1_234_500, "en"), "¥12.35K");
    assert.equal(moneyShort(123_456_789, "en"), "¥1.23M");
    assert.equal(money(null, "en"), NONE);
  });

  it("show what is not defined as such", () => {
    assert.equal(percent(null, "zh"), NONE);
    assert.equal(count(null, "zh"), NONE);
    assert.equal(latency(null, "en"), NONE);
    assert.equal(percent(0.825, "zh"), "82.5%");
  });

  it("show durations and clocks", () => {
    assert.equal(latency(8_449, "zh"), "8.4秒");
    assert.equal(latency(65_000, "zh"), "1分05秒");
    assert.equal(latency(65_000, "en"), "1m 05s");
    assert.equal(duration(7_500_000, "zh"), "2小时05分");
    assert.equal(duration(7_500_000, "en"), "2 h 05 min");
    assert.equal(duration(2 * DAY_MS + 3 * HOUR_MS, "zh"), "2天3小时");
    assert.equal(clock(7_999), "0:07");
    assert.equal(clock(3_723_000), "1:02:03");
    assert.equal(clock(-5), "0:00");
  });

  it("show times in the shop's zone", () => {
    const at = Date.UTC(2025, 10, 10, 16, 5, 9);
    assert.equal(timeOfDay(at, 480), "00:05:09");
    assert.equal(hourMinute(at, 0), "16:05");
  });

  it("show changes, and none where there is nothing before", () => {
    assert.equal(change(112, 100, "en"), "+12.0%");
    assert.equal(change(88, 100, "en"), "−12.0%");
    assert.equal(change(5, 0, "en"), null);
    assert.equal(change(null, 5, "en"), null);
    assert.equal(points(0.8, 0.85, "en"), "−5.0");
  });
});

describe("figures", () => {
  it("are quotients of sums, and undefined for nothing", () => {
    const figures: Figures = { rounds: 10, replied: 8, replied_within_180s: 7, latency_sum_ms: 80_000 };
    assert.deepEqual(replyRate(figures), { name: "replied_within_180s/rounds", raw: "7/10", value: 0.7 });
    assert.equal(averageReply(figures).value, 10_000);
    assert.deepEqual(conversion(figures), { name: "paid_1d/inquiry_buyers", raw: "0/0", value: null });
  });

  it("are 0 where a column is left out, but for percentiles", () => {
    assert.equal(column({}, "rounds").value, 0);
    assert.deepEqual(column({}, "latency_p95_ms"), { name: "latency_p95_ms", raw: "", value: null });
    assert.equal(column({}, "latency_max_ms").value, null);
  });

  const day = 1_000 * DAY_MS;
  const hour = (start: number, rounds: number) => ({ start, figures: { rounds, consulting_buyers: 5 } });
  const yesterday = [hour(day - DAY_MS, 10), hour(day - DAY_MS + HOUR_MS, 20), hour(day - DAY_MS + 2 * HOUR_MS, 41)];

  it("of two days are compared up to now, a share of yesterday's running hour", () => {
    const today = [hour(day, 1), hour(day + HOUR_MS, 2), hour(day + 2 * HOUR_MS, 4)];
    const same = sameHours(day + 2 * HOUR_MS + 15 * MINUTE_MS, day, today, yesterday);
    assert.equal(same?.until, day + 2 * HOUR_MS + 15 * MINUTE_MS);
    assert.equal(same?.today["rounds"], 7);
    assert.equal(same?.yesterday["rounds"], 40);
    // Distinct buyers of hours do not add up to those of a day.
    assert.equal(same?.today["consulting_buyers"], undefined);
    assert.equal(sameHours(day + 2 * HOUR_MS, day, today, yesterday)?.yesterday["rounds"], 30);
    assert.equal(sameHours(day + 2 * HOUR_MS, day, today, []), null);
  });

  it("of two days are compared in the first hour too, from its first minute on", () => {
    const today = [hour(day, 6)];
    const same = sameHours(day + HOUR_MS / 2, day, today, yesterday);
    assert.deepEqual([same?.today["rounds"], same?.yesterday["rounds"]], [6, 5]);
    assert.equal(sameHours(day + MINUTE_MS - 1, day, today, yesterday), null);
    assert.equal(sameHours(day + MINUTE_MS, day, today, yesterday)?.yesterday["rounds"], 0);
  });

  it("of the end of a day are compared with all of the day before", () => {
    assert.equal(sameHours(day + DAY_MS + HOUR_MS, day, [], yesterday)?.yesterday["rounds"], 71);
  });
});

describe("paths", () => {
  it("lead to their views and back, whatever the ids", () => {
    for (const id of ["s1", "店:阿一/?#&%", "a b"]) {
      assert.deepEqual(parse(paths.floor(id)), { view: "floor", shop: id });
      assert.deepEqual(parse(paths.screen(id)), { view: "screen", shop: id });
      assert.deepEqual(parse(paths.agent("s", id)), { view: "agent", shop: "s", agent: id });
    }
    assert.deepEqual(parse("/"), { view: "home" });
    assert.deepEqual(parse("/alerts"), { view: "alerts" });
  });

  it("that are none are named so", () => {
    for (const path of ["/floor", "/floor/a/b", "/agent/a", "/alerts/x", "/x", "/floor/%E0%A4"]) assert.deepEqual(parse(path), { view: "unknown" }, path);
  });
});

describe("curves", () => {
  const hour = 3_600_000 * 1_000;
  const point = (minute: number, n: number) => ({ minute, consulting_buyers: n, buyer_messages: 0, orders_paid: 2 * n, gross_fen: 150 * n });

  it("have a point for every minute up to now, in local time", () => {
    const curves = new Map([[hour, { shop_id: "s", hour, at: 0, minutes: [point(58, 3), point(59, 0)] }]]);
    const data = curveData(curves, hour + 61 * 60_000 + 5, 480);
    assert.deepEqual(data.inquiries, [3, 0, 0, 0]);
    assert.deepEqual(data.orders, [6, 0, 0, 0]);
    assert.deepEqual(data.fen, [450, 0, 0, 0]);
    assert.equal(data.from, hour + 58 * 60_000);
    assert.equal(data.x[0], (hour + 58 * 60_000) / 1_000 + 480 * 60);
  });

  it("are of the newest hours only, and empty without any", () => {
    const curves = new Map([[hour, { shop_id: "s", hour, at: 0, minutes: [point(0, 1)] }]]);
    const data = curveData(curves, hour + 86_400_000, 0);
    assert.equal(data.x.length, MINUTES_MAX);
    assert.deepEqual(curveData(new Map(), hour, 0).x, []);
  });
});

describe("the log's clock", () => {
  it("runs at the rate observed", () => {
    const clock = new LogClock();
    assert.equal(clock.now(0), null);
    clock.observe(1_000, 50_000, 10);
    assert.equal(clock.now(110), 1_100);
    clock.observe(101_000, 51_000, 1_010);
    assert.equal(clock.rate, 100);
    assert.equal(clock.now(1_110), 111_000);
  });

  it("stands still with the log, and never for long without news", () => {
    const clock = new LogClock();
    clock.observe(1_000, 0, 0);
    clock.observe(1_000, 1_000, 1_000);
    assert.equal(clock.rate, 0);
    assert.equal(clock.now(9_000), 1_000);
    const other = new LogClock();
    other.observe(1_000, 0, 0);
    assert.equal(other.now(60_000), 1_000 + RUN_ON_MS);
  });

  it("does not step back for a message that is a little early, but for a log that began anew", () => {
    const clock = new LogClock();
    clock.observe(0, 0, 0);
    clock.observe(1_000, 1_000, 1_000);
    assert.equal(clock.now(2_000), 2_000);
    clock.observe(1_900, 1_901, 2_010);
    assert.equal(clock.now(2_010), 2_000);
    clock.observe(500, 3_000, 3_000);
    assert.equal(clock.now(3_000), 500);
  });

  it("takes no notice of a message that is older than what it knows", () => {
    const clock = new LogClock();
    clock.observe(5_000, 5_000, 0);
    clock.observe(4_000, 4_000, 1);
    assert.equal(clock.now(0), 5_000);
  });
});

describe("the age of figures", () => {
  it("is counted from when they were sent, by the server's clock, whoever answers meanwhile", () => {
    const clock = new ServerClock();
    assert.equal(clock.ageMs(1_000, 0), null);
    clock.observe(1_000_000, 500);
    assert.equal(clock.ageMs(999_000, 500), 1_000);
    assert.equal(clock.ageMs(999_000, 60_500), 61_000);
    clock.observe(1_060_000, 60_500);
    assert.equal(clock.ageMs(999_000, 60_500), 61_000);
    assert.equal(clock.ageMs(1_070_000, 60_500), 0);
    assert.equal(clock.ageMs(null, 60_500), null);
  });
});

function agent(id: string, oldest: number | null, buyers = oldest === null ? 0 : 1, figures: Figures = {}, open?: OpenAlerts): Ranked {
  const waiting = { buyers, over_180s: 0, oldest_since: oldest };
  return { agent: { shop_id: "s", agent_id: id, at: 0, day: "", waiting, figures } as AgentLive, open };
}

describe("order", () => {
  const now = 1_000_000;

  it("puts the worst alert first, then the oldest wait", () => {
    const agents = [
      agent("idle", null),
      agent("short", now - 10_000),
      agent("long", now - 200_000),
      agent("warned", null, 0, {}, { warning: 1, major: 0, critical: 0 }),
      agent("critical", now - 5_000, 1, {}, { warning: 0, major: 0, critical: 1 }),
    ];
    assert.deepEqual(order(agents, "help", now, []), ["critical", "warned", "long", "short", "idle"]);
  });

  it("keeps places within a band of age", () => {
    const agents = [agent("a", now - 61_000), agent("b", now - 99_000), agent("c", now - 70_000)];
    assert.deepEqual(order(agents, "help", now, ["c", "a", "b"]), ["c", "a", "b"]);
    // Half a minute later one of them has waited for 100 s.
    assert.deepEqual(order(agents, "help", now + 1_000, ["c", "a", "b"]), ["b", "c", "a"]);
  });

  it("sorts by figures, undefined ones last", () => {
    const agents = [
      agent("none", null),
      agent("good", null, 0, { rounds: 10, replied_within_180s: 9, gross_fen: 5, inquiry_buyers: 2, paid_1d: 1 }),
      agent("bad", null, 0, { rounds: 10, replied_within_180s: 2, gross_fen: 9 }),
    ];
    assert.deepEqual(order(agents, "rate", now, []), ["bad", "good", "none"]);
    assert.deepEqual(order(agents, "amount", now, []), ["bad", "good", "none"]);
    assert.deepEqual(order(agents, "conversion", now, [])[0], "good");
    assert.deepEqual(order([agent("a10", null), agent("a9", null)], "name", now, []), ["a9", "a10"]);
  });

  it("held still loses only who is gone, and takes new ones at its end", () => {
    const agents = [agent("a", null), agent("c", null), agent("d", null)];
    assert.deepEqual(keep(agents, ["c", "b", "a"]), ["c", "a", "d"]);
  });

  it("has bands", () => {
    assert.equal(ageBand(null, now), 0);
    assert.equal(ageBand(now, now), 1);
    assert.equal(ageBand(now - 30_000, now), 2);
    assert.equal(ageBand(now - 999_000, now), 7);
  });

  it("knows the worst alert", () => {
    assert.equal(worst({ warning: 3, major: 1, critical: 0 }), "major");
    assert.equal(worst({ warning: 0, major: 0, critical: 0 }), null);
    assert.equal(worst(undefined), null);
  });
});

describe("groups", () => {
  it("are what stands before the last separator", () => {
    assert.equal(groupOf("旗舰店:售前-小美"), "旗舰店:售前");
    assert.equal(groupOf("s1-a03"), "s1");
    assert.equal(groupOf("a03"), null);
    assert.equal(groupOf(":a"), null);
    assert.equal(groupOf("a:"), null);
    assert.deepEqual(groups(["b:1", "a:2", "b:3", "x"]), ["a", "b"]);
  });

  it("and search choose together", () => {
    assert.ok(matches("b:Mei1", "b", " mei"));
    assert.ok(!matches("b:Mei1", "a", "mei"));
    assert.ok(!matches("b:Mei1", "", "lei"));
  });
});

describe("alerts in words", () => {
  it("say value and threshold", () => {
    assert.equal(valueText(speech("zh"), "buyer_waiting", 185_000, 1), "等待最久的买家已等 3:05");
    assert.equal(valueText(speech("en"), "reply_rate_3min_low", 20, 40), "50.0% replied within 3 min in the last hour (20 of 40 rounds)");
    assert.equal(valueText(speech("en"), "replies_slow", 250_000, 5), "Mean reply of the last 5 min 50.0 s (5 replies)");
    assert.equal(valueText(speech("zh"), "conversion_low", 0, 0), "今日询单转化 –（0/0 人）");
    const threshold = { warning: 100_000, major: 180_000, critical: 300_000, resolve: 60_000, for: 0 };
    const text = thresholdText(speech("en"), { rule: "buyer_waiting", threshold });
    assert.equal(text, "≥ 1 min 40 s Warning; ≥ 3 min 00 s Major; ≥ 5 min 00 s Critical; ends at < 1 min 00 s");
    const rate = thresholdText(speech("zh"), { rule: "reply_rate_3min_low", threshold: { warning: 80, min_rounds: 30, resolve: 85, for: 120_000 } });
    assert.equal(rate, "< 80% 警告；样本至少 30；解除：≥ 85%；持续 2分00秒 后触发");
    assert.equal(thresholdText(speech("zh"), { rule: "refund_spike", threshold: null }), null);
  });

  it("say nothing undefined for any rule", () => {
    const threshold: Alert["threshold"] = {
      warning: 1, major: 1, critical: 10, resolve: 0, min_refunds: 10, times_base: 3, orders_per_refund: 20, resolve_refunds: 5, resolve_times_base: 2, for: 0,
    };
    for (const rule of RULES) {
      for (const lang of ["zh", "en"] as const) {
        const text = `${valueText(speech(lang), rule, 7, 9)} ${thresholdText(speech(lang), { rule, threshold })}`;
        assert.doesNotMatch(text, /NaN|undefined|null|\{/, `${rule}: ${text}`);
      }
    }
  });

  it("show every kind of evidence", () => {
    const t0 = Date.UTC(2025, 10, 10, 14);
    assert.equal(evidenceText(speech("en"), { buyer_key: "0123456789", since: t0, age_ms: 61_000 }), "Buyer 01234567 has waited since 22:00:00, 1:01 by then");
    assert.match(evidenceText(speech("en"), { buyer_key: "01", t0, a0: t0, latency_ms: null }) ?? "", /not answered yet/);
    assert.match(evidenceText(speech("en"), { buyer_key: "01", t0, a0: t0, latency_ms: 5_000 }) ?? "", /answered after 5\.0 s/);
    assert.match(evidenceText(speech("en"), { refund_id: "f1", order_id: "o1", requested_at: t0, age_ms: 1 }) ?? "", /order o1/);
    assert.equal(evidenceText(speech("en"), {}), null);
  });
});

describe("credit in words", () => {
  const order: CreditedOrder = {
    order_id: "o1", buyer_key: "00", created_at: 10_000_000, paid_at: 10_050_000, amount_fen: 1, refunded_fen: 0,
    rule: "before_order", last_touch_at: 9_880_000, lag_ms: 120_000, first_touch_agent: "a", touching_agents: 1, fake: false,
  };
  const said = (change: Partial<CreditedOrder>) => creditText(speech("en"), "a", { ...order, ...change });

  it("says which touch, how long before, and why not another", () => {
    assert.equal(said({}), "a was the last to reply to the buyer, 2 min 00 s before the order (10:44:40), so the order is a's. No other agent had replied to the buyer before the order.");
    assert.match(said({ first_touch_agent: "b", touching_agents: 3 }), /b was the first of 3 agents who replied before the order; a was the last/);
    assert.match(said({ touching_agents: 3 }), /both first and last; 2 other agents/);
  });

  it("counts from the payment where nobody replied before the order", () => {
    const text = said({ rule: "before_payment", last_touch_at: 10_020_000, lag_ms: null, first_touch_agent: null, touching_agents: 0 });
    assert.match(text, /last to reply before the payment, 30 s before it/);
    assert.doesNotMatch(text, /No other agent/);
  });

  it("does not invent a reason it does not know", () => {
    assert.equal(said({ last_touch_at: null }), "Credited to a by the rule before_order.");
  });
});
