// The big screen of the war room: totals to read across a room, curves by the minute, a ranking, alerts.

import { useComputed } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import type uPlot from "uplot";
import { lang, source, t, tr } from "../app_state";
import { curveData } from "../lib/curve";
import { averageReply, column, conversion, MINUTE_MS, replyRate } from "../lib/figures";
import { count, hourMinute, moneyShort, type Lang } from "../lib/format";
import { worstFirst } from "../lib/open_alerts";
import type { ShopLive } from "../lib/types";
import { valueText } from "../lib/words";
import { paths } from "../lib/route";
import type { ShopSource } from "../source";
import { Chart } from "./chart";
import { AlertsCut, Col, Fig, LiveClock, SeverityBadge, Title } from "./parts";
import { Banner, Failure, Status } from "./shell";
import { todays } from "./floor";

/** Hours of curves that are asked for. */
export const SCREEN_HOURS = 24;

/** Fen of a yuan, in which money is drawn. */
const FEN = 100;

/** As many rows as the wall has room for. */
const ranks = (height: number) => Math.min(15, Math.max(5, Math.floor((height - 330) / 47)));
const rows = (height: number) => Math.min(12, Math.max(4, Math.floor((height - 330) / 64)));

function useHeight(): number {
  const [height, setHeight] = useState(window.innerHeight);
  useEffect(() => {
    const onResize = () => setHeight(window.innerHeight);
    window.addEventListener("resize", onResize);
    return () => window.removeEventListener("resize", onResize);
  }, []);
  return height;
}

function Curves({ from, shop }: { from: ShopSource; shop: ShopLive }) {
  const minute = Math.floor(shop.at / MINUTE_MS);
  const curves = from.curves.value;
  const offset = shop.utc_offset_minutes;
  const data = useMemo(() => curveData(curves, shop.at, offset), [curves, minute, offset]);
  const aligned = useMemo(() => [data.inquiries, data.orders, data.fen.map((fen) => fen / FEN)].map((values) => [data.x, values] as uPlot.AlignedData), [data]);
  const height = Math.max(110, Math.round((useHeight() - 430) / 3));
  const present = lang.value;
  const short = (value: number) => (present === "zh" && value >= 10_000 ? `${value / 10_000}万` : value >= 10_000 ? `${value / 1_000}K` : count(value, present));
  // The minute that is running is not complete; the last full one is what is said.
  const latest = (values: number[], text: (value: number, lang: Lang) => string) => t("screen.latest", { value: text(values[values.length - 2] ?? 0, present) });
  const charts = [
    { name: "consulting_buyers", label: t("screen.curve.inquiries"), colour: "c1", text: count, values: data.inquiries, unit: 1 },
    { name: "orders_paid", label: t("screen.curve.orders"), colour: "c2", text: count, values: data.orders, unit: 1 },
    { name: "gross_fen", label: t("screen.curve.amount"), colour: "c3", text: moneyShort, values: data.fen, unit: FEN },
  ];
  return (
    <div class="curves">
      {charts.map((chart, i) => (
        <figure key={i} data-curve={chart.name} data-from={data.from ?? ""} data-minutes={chart.values.join()}>
          <figcaption>
            {chart.label} <strong>{latest(chart.values, chart.text)}</strong>
          </figcaption>
          <Chart
            dark
            legend={false}
            label={`${chart.label}: ${latest(chart.values, chart.text)}`}
            height={height}
            data={aligned[i]!}
            time
            x={(value) => hourMinute(value * 1_000, 0)}
            left={short}
            series={[{ label: chart.label, colour: chart.colour, kind: "area", text: (value) => chart.text(value === null ? null : Math.round(value * chart.unit), present) }]}
          />
        </figure>
      ))}
    </div>
  );
}

function Ranking({ from, day }: { from: ShopSource; day: string }) {
  const height = useHeight();
  const ranked = useComputed(() => {
    const ids = from.agentIds.value;
    const agents = ids.map((id) => from.agents.get(id)!.value).map((agent) => ({ id: agent.agent_id, figures: todays(agent, day) }));
    return agents
      .filter((agent) => (agent.figures["orders_paid"] ?? 0) > 0)
      .sort((a, b) => (b.figures["gross_fen"] ?? 0) - (a.figures["gross_fen"] ?? 0) || (a.id < b.id ? -1 : 1));
  });
  return (
    <section class="ranking" aria-labelledby="ranking-title">
      <h2 id="ranking-title">{t("screen.ranking")}</h2>
      <table>
        <thead>
          <tr>
            <th scope="col">
              <span class="hidden">{t("screen.rank")}</span>
            </th>
            <th scope="col">{t("floor.agents")}</th>
            <th scope="col">{t("figure.amount")}</th>
            <th scope="col">{t("figure.orders")}</th>
            <th scope="col">{t("figure.conversion")}</th>
          </tr>
        </thead>
        <tbody>
          {ranked.value.slice(0, ranks(height)).map(({ id, figures }, i) => (
            <tr key={id} data-agent={id}>
              <td class="rank">{i + 1}</td>
              <th scope="row">{id}</th>
              <td>
                <Col of={figures} name="gross_fen" as="moneyShort" />
              </td>
              <td>
                <Col of={figures} name="orders_paid" />
              </td>
              <td>
                <Fig figure={conversion(figures)} as="percent" />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

function OpenAlerts({ from, offset }: { from: ShopSource; offset: number }) {
  const alerts = [...from.alerts.value.values()].sort(worstFirst);
  const speech = { t: tr.value, lang: lang.value, offset };
  const room = rows(useHeight());
  return (
    <section class="open" aria-labelledby="screen-alerts-title">
      <h2 id="screen-alerts-title">
        {t("screen.alerts")} <span data-figure="open_alerts" data-value={alerts.length}>{alerts.length}</span>
      </h2>
      {alerts.length === 0 && <p class="empty">{t("alerts.all_quiet")}</p>}
      <ul>
        {alerts.slice(0, room).map((alert) => (
          <li key={alert.alert_id} class={alert.severity} data-alert={alert.alert_id}>
            <SeverityBadge severity={alert.severity} /> <strong>{alert.agent_id ?? t("alerts.whole_shop")}</strong> {t(`rule.${alert.rule}`)}
            <span class="clock-of">
              <LiveClock since={alert.onset} />
            </span>
            <span class="muted">{valueText(speech, alert.rule, alert.value_num, alert.value_den)}</span>
          </li>
        ))}
      </ul>
      {alerts.length > room && <p class="muted">{t("screen.more", { n: alerts.length - room })}</p>}
      <AlertsCut cut={from.alertsCut.value} />
    </section>
  );
}

function Huge({ shop }: { shop: ShopLive }) {
  const { figures, waiting } = shop;
  return (
    <dl class="huge" data-shop={shop.shop_id} data-at={shop.at}>
      <div class="main">
        <dt>{t("figure.amount")}</dt>
        <dd>
          <Fig figure={column(figures, "gross_fen")} as="moneyShort" />
        </dd>
      </div>
      <div class="main">
        <dt>{t("figure.orders")}</dt>
        <dd>
          <Fig figure={column(figures, "orders_paid")} />
        </dd>
      </div>
      <div class="main">
        <dt>{t("figure.consulting")}</dt>
        <dd>
          <Fig figure={column(figures, "consulting_buyers")} />
        </dd>
      </div>
      <div>
        <dt>{t("figure.waiting_now")}</dt>
        <dd>
          <Fig figure={{ name: "waiting.buyers", raw: String(waiting.buyers), value: waiting.buyers }} />
        </dd>
      </div>
      <div>
        <dt>{t("screen.oldest")}</dt>
        <dd>{waiting.oldest_since === null ? "–" : <LiveClock since={waiting.oldest_since} />}</dd>
      </div>
      <div>
        <dt>{t("figure.reply_rate")}</dt>
        <dd>
          <Fig figure={replyRate(figures)} as="percent" />
        </dd>
      </div>
      <div>
        <dt>{t("figure.average")}</dt>
        <dd>
          <Fig figure={averageReply(figures)} as="latency" />
        </dd>
      </div>
      <div>
        <dt>{t("figure.conversion")}</dt>
        <dd>
          <Fig figure={conversion(figures)} as="percent" />
        </dd>
      </div>
      <div>
        <dt>{t("figure.refunds")}</dt>
        <dd>
          <Fig figure={column(figures, "refunds")} />
        </dd>
      </div>
    </dl>
  );
}

export function Screen({ from }: { from: ShopSource }) {
  const shop = from.shop.value;
  const full = () => void (document.fullscreenElement ? document.exitFullscreen() : document.documentElement.requestFullscreen());
  return (
    <div class="screen" data-theme="dark">
      <header>
        <Title text={t("screen.title", { shop: from.shopId })}>{from.shopId}</Title>
        {source.value && <Status />}
        <div class="settings">
          <button type="button" class="plain" onClick={full}>
            {t("screen.full")}
          </button>
          <a href={paths.floor(from.shopId)}>{t("screen.leave")}</a>
        </div>
      </header>
      <Banner />
      <main id="main" tabIndex={-1}>
        {!from.ready.value || !shop ? (
          <Failure error={from.failure.value} />
        ) : (
          <>
            <Huge shop={shop} />
            <div class="panels">
              <Curves from={from} shop={shop} />
              <Ranking from={from} day={shop.day} />
              <OpenAlerts from={from} offset={shop.utc_offset_minutes} />
            </div>
          </>
        )}
      </main>
    </div>
  );
}
