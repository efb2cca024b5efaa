// An agent's day: charts by hour, missed rounds, and the orders credited, each with the reason in words.

import { useEffect, useMemo } from "preact/hooks";
import type uPlot from "uplot";
import { lang, me, t, tr } from "../app_state";
import { averageReply, column, conversion, replyRate } from "../lib/figures";
import { buyer, duration, hourMinute, latency, money, percent, timeOfDay } from "../lib/format";
import type { AgentDetail, AgentLive, Alert, HourFigures } from "../lib/types";
import { creditText } from "../lib/words";
import { paths } from "../lib/route";
import { arrived } from "../router";
import type { ShopSource } from "../source";
import { AlertItem } from "./alert_item";
import { Chart } from "./chart";
import { todays } from "./floor";
import { Col, Fig, LiveClock, Pair, Title } from "./parts";
import { Failure } from "./shell";

/** Orders and missed rounds that the API lists at most, the newest ones. */
const LISTED_MAX = 100;

/** A column of the day, added up over hours. */
const ofDay = (hours: HourFigures[], name: string) => hours.reduce((total, hour) => total + (hour.figures[name] ?? 0), 0);

function Summary({ agent, day }: { agent: AgentLive; day: string }) {
  const figures = todays(agent, day);
  const { waiting } = agent;
  return (
    <section class="totals" aria-label={t("agent.figures")} data-agent={agent.agent_id} data-at={agent.at}>
      <dl>
        <div class={waiting.over_180s > 0 ? "tile strong urgent" : "tile strong"}>
          <dt>{t("figure.waiting_now")}</dt>
          <dd>
            <Fig figure={{ name: "waiting.buyers", raw: String(waiting.buyers), value: waiting.buyers }} />
            <span class="compare">{waiting.oldest_since !== null && <LiveClock since={waiting.oldest_since} />}</span>
          </dd>
        </div>
        <Pair class="tile" label="figure.reply_rate">
          <Fig figure={replyRate(figures)} as="percent" />
        </Pair>
        <Pair class="tile" label="figure.average">
          <Fig figure={averageReply(figures)} as="latency" />
        </Pair>
        <Pair class="tile" label="figure.p95">
          <Col of={figures} name="latency_p95_ms" as="latency" />
        </Pair>
        <Pair class="tile" label="figure.rounds">
          <Col of={figures} name="rounds" />
        </Pair>
        <Pair class="tile" label="figure.received">
          <Col of={figures} name="received_buyers" />
        </Pair>
        <Pair class="tile" label="figure.inquiry">
          <Col of={figures} name="inquiry_buyers" />
        </Pair>
        <Pair class="tile" label="figure.conversion">
          <Fig figure={conversion(figures)} as="percent" />
        </Pair>
        <Pair class="tile" label="figure.orders">
          <Col of={figures} name="orders_paid" />
        </Pair>
        <Pair class="tile" label="figure.amount">
          <Col of={figures} name="gross_fen" as="moneyShort" />
        </Pair>
        <Pair class="tile" label="figure.refunds">
          <Col of={figures} name="refunds" />
        </Pair>
        <Pair class="tile" label="figure.refund_amount">
          <Col of={figures} name="refund_fen" as="moneyShort" />
        </Pair>
      </dl>
    </section>
  );
}

/** The charts' numbers: hours as hours of the day, stacked bars drawn from the back. */
function chartData(hours: HourFigures[], dayHour: (start: number) => number) {
  const x = hours.map((hour) => dayHour(hour.start));
  const of = (name: string) => hours.map((hour) => hour.figures[name] ?? 0);
  const average = hours.map((hour) => seconds(averageReply(hour.figures).value));
  const p95 = hours.map((hour) => seconds(hour.figures["latency_p95_ms"] ?? null));
  const rate = hours.map((hour) => conversion(hour.figures).value);
  return {
    reply: [x, average, p95] as uPlot.AlignedData,
    rounds: [x, of("rounds"), of("replied"), of("replied_within_180s")] as uPlot.AlignedData,
    conversion: [x, of("inquiry_buyers"), of("paid_1d"), rate] as uPlot.AlignedData,
  };
}

const seconds = (ms: number | null) => (ms === null ? null : ms / 1_000);

function Charts({ detail, offset }: { detail: AgentDetail; offset: number }) {
  const data = useMemo(() => chartData(detail.hours, (start) => Math.floor((start / 60_000 + offset) / 60) % 24), [detail, offset]);
  const present = lang.value;
  const n = (value: number | null) => (value === null ? "–" : String(Math.round(value)));
  const s = (value: number | null) => latency(value === null ? null : value * 1_000, present);
  const pct = (value: number | null) => percent(value, present);
  const hour = (value: number) => (Number.isInteger(value) ? `${value}:00` : "");
  const whole = (value: number) => (Number.isInteger(value) ? String(value) : "");
  const common = { height: 220, xLabel: t("agent.hour"), x: hour, time: false };
  return (
    <div class="charts">
      <figure>
        <figcaption>{t("agent.chart.reply")}</figcaption>
        <Chart
          {...common}
          label={t("agent.chart.reply")}
          data={data.reply}
          left={(value) => `${value}${present === "zh" ? "秒" : " s"}`}
          series={[
            { label: t("figure.average"), colour: "c1", kind: "line", text: s },
            { label: t("figure.p95"), colour: "c3", kind: "line", text: s },
          ]}
        />
      </figure>
      <figure>
        <figcaption>{t("agent.chart.rounds")}</figcaption>
        <Chart
          {...common}
          label={t("agent.chart.rounds")}
          data={data.rounds}
          left={whole}
          series={[
            { label: t("figure.rounds"), colour: "c4", kind: "bars", text: n },
            { label: t("outcome.replied"), colour: "c2", kind: "bars", text: n },
            { label: t("agent.within"), colour: "c1", kind: "bars", text: n },
          ]}
        />
      </figure>
      <figure>
        <figcaption>{t("agent.chart.conversion")}</figcaption>
        <Chart
          {...common}
          label={t("agent.chart.conversion")}
          data={data.conversion}
          left={whole}
          right={(value) => `${Math.round(value * 100)}%`}
          series={[
            { label: t("figure.inquiry"), colour: "c2", kind: "bars", text: n },
            { label: t("figure.paid"), colour: "c1", kind: "bars", text: n },
            { label: t("figure.conversion"), colour: "c3", kind: "line", right: true, text: pct },
          ]}
        />
      </figure>
    </div>
  );
}

function HourTable({ hours, offset }: { hours: HourFigures[]; offset: number }) {
  return (
    <details class="hours">
      <summary>{t("agent.table")}</summary>
      <div class="scroll" tabIndex={0} role="region" aria-label={t("agent.table")}>
        <table>
          <thead>
            <tr>
              <th scope="col">{t("agent.hour")}</th>
              <th scope="col">{t("figure.rounds")}</th>
              <th scope="col">{t("figure.reply_rate")}</th>
              <th scope="col">{t("figure.average")}</th>
              <th scope="col">{t("figure.p95")}</th>
              <th scope="col">{t("figure.inquiry")}</th>
              <th scope="col">{t("figure.paid")}</th>
              <th scope="col">{t("figure.conversion")}</th>
              <th scope="col">{t("figure.amount")}</th>
            </tr>
          </thead>
          <tbody>
            {hours.map(({ start, figures }) => (
              <tr key={start} data-hour={start}>
                <th scope="row">{hourMinute(start, offset)}</th>
                <td>
                  <Fig figure={column(figures, "rounds")} />
                </td>
                <td>
                  <Fig figure={replyRate(figures)} as="percent" />
                </td>
                <td>
                  <Fig figure={averageReply(figures)} as="latency" />
                </td>
                <td>
                  <Fig figure={column(figures, "latency_p95_ms")} as="latency" />
                </td>
                <td>
                  <Fig figure={column(figures, "inquiry_buyers")} />
                </td>
                <td>
                  <Fig figure={column(figures, "paid_1d")} />
                </td>
                <td>
                  <Fig figure={conversion(figures)} as="percent" />
                </td>
                <td>
                  <Fig figure={column(figures, "gross_fen")} as="money" />
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function outcomeText(outcome: string): string {
  if (outcome === "replied" || outcome === "transferred" || outcome === "unanswered") return t(`outcome.${outcome}`);
  return outcome === "" ? t("agent.still") : outcome;
}

function Missed({ detail, offset }: { detail: AgentDetail; offset: number }) {
  const { missed, hours } = detail;
  const n = missed.length;
  const all = ofDay(hours, "rounds") - ofDay(hours, "replied_within_180s");
  return (
    <section aria-labelledby="missed-title">
      <h2 id="missed-title">
        {t("agent.missed")} {n > 0 && <small data-cut={n >= LISTED_MAX}>{n < LISTED_MAX ? t("agent.missed.newest", { n }) : t("agent.missed.cut", { n, all })}</small>}
      </h2>
      {missed.length === 0 ? (
        <p class="empty">{t("agent.missed.none")}</p>
      ) : (
        <div class="scroll tall" tabIndex={0} role="region" aria-labelledby="missed-title">
          <table>
            <thead>
              <tr>
                <th scope="col">{t("agent.asked")}</th>
                <th scope="col">{t("agent.waited")}</th>
                <th scope="col">{t("agent.outcome")}</th>
                <th scope="col">{t("agent.buyer")}</th>
                <th scope="col">{t("agent.assigned")}</th>
                <th scope="col">{t("agent.ended")}</th>
              </tr>
            </thead>
            <tbody>
              {missed.map((round) => (
                <tr key={`${round.buyer_key} ${round.t0} ${round.a0}`} data-buyer={round.buyer_key} data-t0={round.t0}>
                  <td>{timeOfDay(round.t0, offset)}</td>
                  <td class="bad">{round.ended_at === null ? <LiveClock since={round.a0} /> : duration(round.ended_at - round.a0, lang.value)}</td>
                  <td>{outcomeText(round.outcome)}</td>
                  <td>
                    <code title={round.buyer_key}>{buyer(round.buyer_key)}</code>
                  </td>
                  <td>{timeOfDay(round.a0, offset)}</td>
                  <td>{round.ended_at === null ? t("agent.still") : timeOfDay(round.ended_at, offset)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Orders({ detail, offset }: { detail: AgentDetail; offset: number }) {
  const { orders, hours } = detail;
  const n = orders.length;
  const speech = { t: tr.value, lang: lang.value, offset };
  return (
    <section aria-labelledby="orders-title">
      <h2 id="orders-title">
        {t("agent.orders")} {n > 0 && <small data-cut={n >= LISTED_MAX}>{n < LISTED_MAX ? t("agent.orders.newest", { n }) : t("agent.orders.cut", { n, all: ofDay(hours, "orders_paid") })}</small>}
      </h2>
      {orders.length === 0 && <p class="empty">{t("agent.orders.none")}</p>}
      <ul class="orders">
        {orders.map((order) => (
          <li key={order.order_id} class={order.fake ? "order fake" : "order"} data-order={order.order_id} data-rule={order.rule}>
            <h3>
              <code>{order.order_id}</code>
              <span class="money" data-figure="amount_fen" data-value={order.amount_fen ?? ""}>
                {money(order.amount_fen, lang.value)}
              </span>
            </h3>
            <p class="when">
              {t("agent.buyer")} <code title={order.buyer_key}>{buyer(order.buyer_key)}</code> · {t("order.created", { time: timeOfDay(order.created_at, offset) })} ·{" "}
              {order.paid_at === null ? t("order.unpaid") : t("order.paid", { time: timeOfDay(order.paid_at, offset) })}
              {order.refunded_fen > 0 && <strong class="bad"> · {t("order.refunded", { amount: money(order.refunded_fen, lang.value) })}</strong>}
              {order.fake && <strong class="bad"> · {t("order.fake")}</strong>}
            </p>
            <p class="why">{creditText(speech, detail.agent_id, order)}</p>
          </li>
        ))}
      </ul>
    </section>
  );
}

function AgentAlerts({ alerts, offset }: { alerts: Alert[]; offset: number }) {
  if (alerts.length === 0) return null;
  return (
    <section aria-labelledby="agent-alerts-title">
      <h2 id="agent-alerts-title">{t("agent.alerts")}</h2>
      <ul class="alerts">
        {alerts.map((alert) => (
          <AlertItem key={alert.alert_id} alert={alert} offset={offset} onChange={() => undefined} />
        ))}
      </ul>
    </section>
  );
}

export function Agent({ from, agentId }: { from: ShopSource; agentId: string }) {
  const { shop, ready, failure, detail } = from;
  const ids = from.agentIds.value;
  const agent = ids.includes(agentId) ? from.agents.get(agentId)?.value : undefined;
  const there = ready.value && agent !== undefined;
  useEffect(() => {
    if (there) arrived();
  }, [there]);
  // An agent does not see the shop and its zone; the browser is where the agent is.
  const offset = shop.value?.utc_offset_minutes ?? -new Date().getTimezoneOffset();
  return (
    <>
      {me.value?.agent === null && (
        <a class="back" href={paths.floor(from.shopId)}>
          ← {t("agent.back")}
        </a>
      )}
      <Title text={t("agent.title", { agent: agentId })} />
      {!there || !agent ? (
        <Failure error={failure.value} />
      ) : (
        <>
          <Summary agent={agent} day={shop.value?.day ?? agent.day} />
          <AgentAlerts alerts={[...from.alerts.value.values()]} offset={offset} />
          {detail.value === null ? (
            <p class="empty">{t("agent.no_detail")}</p>
          ) : (
            <>
              <Charts detail={detail.value} offset={offset} />
              <HourTable hours={detail.value.hours} offset={offset} />
              <div class="columns">
                <Orders detail={detail.value} offset={offset} />
                <Missed detail={detail.value} offset={offset} />
              </div>
            </>
          )}
        </>
      )}
    </>
  );
}
