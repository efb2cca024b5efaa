// The shops one sees; with only one, straight to its floor.

import { useEffect, useMemo } from "preact/hooks";
import { source, t } from "../app_state";
import { averageReply, replyRate } from "../lib/figures";
import { worst } from "../lib/rank";
import { paths } from "../lib/route";
import { arrived, navigate } from "../router";
import { PollSource } from "../poll_source";
import { Col, Fig, OpenBadges, Pair, Title } from "./parts";
import { Failure, shopIds } from "./shell";

/** How often the shops are asked for (ms). */
const POLL_MS = 1_500;

export function Shops() {
  const from = useMemo(() => new PollSource(() => Promise.resolve(), POLL_MS), []);
  useEffect(() => {
    source.value = from;
    return () => from.close();
  }, [from]);
  const shops = from.shops.value;
  useEffect(() => {
    if (!shops) return;
    shopIds.value = shops.map((shop) => shop.shop_id);
    if (shops.length === 1) navigate(paths.floor(shops[0]!.shop_id), true);
    else arrived();
  }, [shops]);
  return (
    <>
      <Title text={t("shops.title")} />
      {shops === null && <Failure error={from.failure.value} />}
      {shops?.length === 1 && <p class="empty">{t("state.loading")}</p>}
      {shops?.length === 0 && <p class="empty">{t("shops.none")}</p>}
      <ul class="cards">
        {(shops?.length === 1 ? [] : shops)?.map((shop) => (
          <li key={shop.shop_id} class={`card ${worst(shop.open_alerts) ?? "calm"}`} data-shop={shop.shop_id} data-at={shop.at}>
            <article>
              <h3>
                <a href={paths.floor(shop.shop_id)} data-keep={`shop-${shop.shop_id}`}>
                  {shop.shop_id}
                </a>
                <OpenBadges open={shop.open_alerts} />
              </h3>
              <p class={shop.waiting.buyers > 0 ? "waits" : "waits none"}>
                <span data-figure="waiting.buyers" data-value={shop.waiting.buyers}>
                  {shop.waiting.buyers > 0 ? t("floor.waiting_buyers", { n: shop.waiting.buyers }) : t("floor.nobody_waits")}
                </span>
              </p>
              <dl>
                <Pair label="figure.reply_rate">
                  <Fig figure={replyRate(shop.figures)} as="percent" />
                </Pair>
                <Pair label="figure.average">
                  <Fig figure={averageReply(shop.figures)} as="latency" />
                </Pair>
                <Pair label="figure.consulting">
                  <Col of={shop.figures} name="consulting_buyers" />
                </Pair>
                <Pair label="figure.orders">
                  <Col of={shop.figures} name="orders_paid" />
                </Pair>
                <Pair label="figure.amount">
                  <Col of={shop.figures} name="gross_fen" as="moneyShort" />
                </Pair>
                <Pair label="figure.refunds">
                  <Col of={shop.figures} name="refunds" />
                </Pair>
              </dl>
            </article>
          </li>
        ))}
      </ul>
    </>
  );
}
