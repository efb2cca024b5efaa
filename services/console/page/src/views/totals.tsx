// A shop's totals, with what the same hours of yesterday brought.

import { lang, t } from "../app_state";
import { averageReply, column, conversion, replyRate, sameHours, type Figure, type SameHours } from "../lib/figures";
import { change, count, hourMinute, latency, moneyShort, percent, points, type Lang } from "../lib/format";
import type { Key } from "../lib/i18n";
import type { Figures, ShopLive } from "../lib/types";
import { Fig, LiveClock, type Format } from "./parts";

/** A tile: a figure of the day so far, and how to compare full hours of it (null: it does not add up over hours). */
interface Tile {
  label: Key;
  figure: (figures: Figures) => Figure;
  as: Format;
  compare: boolean;
}

const col = (name: string) => (figures: Figures) => column(figures, name);

const TILES: readonly Tile[] = [
  { label: "figure.reply_rate", figure: replyRate, as: "percent", compare: true },
  { label: "figure.average", figure: averageReply, as: "latency", compare: true },
  { label: "figure.p95", figure: col("latency_p95_ms"), as: "latency", compare: false },
  { label: "figure.consulting", figure: col("consulting_buyers"), as: "count", compare: false },
  { label: "figure.received", figure: col("received_buyers"), as: "count", compare: false },
  { label: "figure.inquiry", figure: col("inquiry_buyers"), as: "count", compare: true },
  { label: "figure.conversion", figure: conversion, as: "percent", compare: false },
  { label: "figure.orders", figure: col("orders_paid"), as: "count", compare: true },
  { label: "figure.amount", figure: col("gross_fen"), as: "moneyShort", compare: true },
  { label: "figure.refunds", figure: col("refunds"), as: "count", compare: true },
  { label: "figure.refund_amount", figure: col("refund_fen"), as: "moneyShort", compare: true },
];

const texts: Record<Format, (value: number | null, lang: Lang) => string> = { count, percent, latency, money: moneyShort, moneyShort };

const pointsText = (text: string | null) => (text === null ? null : t("compare.points", { n: text }));

function Compared({ tile, hours, offset }: { tile: Tile; hours: SameHours; offset: number }) {
  const [today, before] = [tile.figure(hours.today), tile.figure(hours.yesterday)];
  const text = (figure: Figure) => texts[tile.as](figure.value, lang.value);
  const difference = tile.as === "percent" ? pointsText(points(today.value, before.value, lang.value)) : change(today.value, before.value, lang.value);
  const title = t("compare.title", { time: hourMinute(hours.until, offset), today: text(today), yesterday: text(before) });
  return (
    <span class="compare" title={title}>
      {t("compare.yesterday", { value: text(before) })}
      {difference !== null && (
        <>
          {" "}
          <span class="change" data-compare={today.name} data-today={today.raw} data-yesterday={before.raw}>
            {difference}
          </span>
        </>
      )}
    </span>
  );
}

export function Totals({ shop }: { shop: ShopLive }) {
  const hours = sameHours(shop.at, shop.day_start, shop.hours, shop.yesterday);
  const offset = shop.utc_offset_minutes;
  const { waiting } = shop;
  return (
    <section class="totals" aria-label={t("floor.totals")} data-shop={shop.shop_id} data-at={shop.at}>
      <dl>
        <div class={waiting.over_180s > 0 ? "tile strong urgent" : "tile strong"}>
          <dt>{t("figure.waiting_now")}</dt>
          <dd>
            <Fig figure={{ name: "waiting.buyers", raw: String(waiting.buyers), value: waiting.buyers }} />
            <span class="compare">
              {t("figure.over_180s")} <Fig figure={{ name: "waiting.over_180s", raw: String(waiting.over_180s), value: waiting.over_180s }} />
              {waiting.oldest_since !== null && (
                <>
                  {" · "}
                  {t("figure.oldest")} <LiveClock since={waiting.oldest_since} />
                </>
              )}
            </span>
          </dd>
        </div>
        {TILES.map((tile) => (
          <div class="tile" key={tile.label}>
            <dt>{t(tile.label)}</dt>
            <dd>
              <Fig figure={tile.figure(shop.figures)} as={tile.as} />
              {tile.compare && hours && <Compared tile={tile} hours={hours} offset={offset} />}
            </dd>
          </div>
        ))}
      </dl>
      {hours && (
        <p class="muted until">
          {t("compare.note", { time: hourMinute(hours.until, offset) })}
        </p>
      )}
    </section>
  );
}
