// The floor: every agent of a shop, who needs help first.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t } from "../app_state";
import { averageReply, conversion, replyRate } from "../lib/figures";
import { groups, keep, matches, order, SORTS, worst, type Ranked, type SortBy } from "../lib/rank";
import type { AgentLive, Figures } from "../lib/types";
import { paths } from "../lib/route";
import { arrived, queryValue, setQuery } from "../router";
import type { ShopSource } from "../source";
import { AlertsCut, Choice, Col, Fig, LiveClock, OpenBadges, Pair, Title } from "./parts";
import { Failure } from "./shell";
import { Totals } from "./totals";

/** How often the order is looked at (ms). */
const ORDER_MS = 1_000;

/** After a movement of pointer or finger on the list its order holds still for this long (ms); a mouse that is only left lying there holds nothing. */
const HOLD_MS = 8_000;

const NO_FIGURES: Figures = {};

/** Figures of the shop's day; those of an agent who has done nothing yet today are still yesterday's. */
export function todays(agent: AgentLive, day: string): Figures {
  return agent.day === day ? agent.figures : NO_FIGURES;
}

function Card({ from, id }: { from: ShopSource; id: string }) {
  const agent = from.agents.get(id)?.value;
  const day = useComputed(() => from.shop.value?.day ?? "").value;
  const open = from.open(id);
  if (!agent) return null;
  const figures = todays(agent, day);
  const severity = worst(open);
  const { waiting } = agent;
  return (
    <li class={`card ${severity ?? "calm"}`} data-agent={id} data-at={agent.at} data-severity={severity ?? "none"} data-oldest={waiting.oldest_since ?? ""}>
      <article aria-labelledby={`agent-${id}`}>
        <h3 id={`agent-${id}`}>
          <a href={paths.agent(agent.shop_id, id)} data-keep={`agent-${id}`}>
            {id}
          </a>
          <OpenBadges open={open} />
        </h3>
        <p class={waiting.buyers > 0 ? "waits" : "waits none"}>
          <span data-figure="waiting.buyers" data-value={waiting.buyers}>
            {waiting.buyers > 0 ? t("floor.waiting_buyers", { n: waiting.buyers }) : t("floor.nobody_waits")}
          </span>
          {waiting.oldest_since !== null && <LiveClock since={waiting.oldest_since} />}
        </p>
        <dl>
          <Pair label="figure.reply_rate">
            <Fig figure={replyRate(figures)} as="percent" />
          </Pair>
          <Pair label="figure.average">
            <Fig figure={averageReply(figures)} as="latency" />
          </Pair>
          <Pair label="figure.p95">
            <Col of={figures} name="latency_p95_ms" as="latency" />
          </Pair>
          <Pair label="figure.received">
            <Col of={figures} name="received_buyers" />
          </Pair>
          <Pair label="figure.inquiry">
            <Col of={figures} name="inquiry_buyers" />
          </Pair>
          <Pair label="figure.conversion">
            <Fig figure={conversion(figures)} as="percent" />
          </Pair>
          <Pair label="figure.orders">
            <Col of={figures} name="orders_paid" />
          </Pair>
          <Pair label="figure.amount">
            <Col of={figures} name="gross_fen" as="moneyShort" />
          </Pair>
          <Pair label="figure.refunds">
            <Col of={figures} name="refunds" />
          </Pair>
        </dl>
      </article>
    </li>
  );
}

/** Whether an agent has anything to show: a figure of today, a buyer who waits, or an open alert. */
function present(from: ShopSource, agent: AgentLive, day: string): boolean {
  return agent.day === day || agent.waiting.buyers > 0 || worst(from.openByAgent.peek().get(agent.agent_id)) !== null;
}

interface List {
  ids: string[];
  all: number;
}

/** The order of the list: looked at every second, and left alone while pointer, finger or focus is on it. */
function useOrder(from: ShopSource, list: { current: HTMLElement | null }, sort: SortBy, group: string, search: string) {
  const shown = useSignal<List>({ ids: [], all: 0 });
  const held = useSignal(false);
  const movedMs = useRef(-HOLD_MS);
  const update = (force: boolean) => {
    const day = from.shop.peek()?.day ?? "";
    const agents: Ranked[] = [];
    for (const signal of from.agents.values()) {
      const agent = signal.peek();
      if (present(from, agent, day)) agents.push({ agent: { ...agent, figures: todays(agent, day) }, open: from.openByAgent.peek().get(agent.agent_id) });
    }
    const wanted = agents.filter((entry) => matches(entry.agent.agent_id, group, search));
    const focus = list.current?.contains(document.activeElement) ?? false;
    held.value = !force && (focus || performance.now() - movedMs.current < HOLD_MS);
    const now = from.clock.now(performance.now()) ?? 0;
    const before = shown.peek();
    const ids = held.peek() ? keep(wanted, before.ids) : order(wanted, sort, now, before.ids);
    if (ids.length !== before.ids.length || agents.length !== before.all || ids.some((id, i) => id !== before.ids[i])) shown.value = { ids, all: agents.length };
  };
  const ids = from.agentIds.value;
  useEffect(() => {
    update(true);
    const timer = window.setInterval(() => update(false), ORDER_MS);
    return () => window.clearInterval(timer);
  }, [from, ids, sort, group, search]);
  const moved = () => void (movedMs.current = performance.now());
  const left = () => void (movedMs.current = -HOLD_MS);
  const hold = { onPointerMove: moved, onTouchStart: moved, onTouchMove: moved, onMouseLeave: left };
  return { shown, held, hold };
}

function Tools({ from, sort, shown, held }: { from: ShopSource; sort: SortBy; shown: List; held: boolean }) {
  const found = groups(from.agentIds.value);
  return (
    <div class="tools" role="search">
      <label class="field">
        <span class="hidden">{t("floor.search")}</span>
        <input type="search" data-keep="search" placeholder={t("floor.search")} value={queryValue("q")} onInput={(event) => setQuery({ q: event.currentTarget.value })} />
      </label>
      {found.length > 0 && (
        <Choice
          label={t("floor.group")}
          keep="group"
          value={queryValue("group")}
          options={[["", t("floor.group.all")], ...found.map((name): [string, string] => [name, name])]}
          onChoose={(group) => setQuery({ group })}
        />
      )}
      <Choice
        label={t("floor.sort")}
        keep="sort"
        value={sort}
        options={SORTS.map((by): [string, string] => [by, t(`sort.${by}`)])}
        onChoose={(by) => setQuery({ sort: by === "help" ? "" : by })}
      />
      <span class="muted count" role="status">
        {t("floor.count", { shown: shown.ids.length, all: shown.all })}
      </span>
      {held && <span class="muted held">{t("floor.held")}</span>}
    </div>
  );
}

export function Floor({ from }: { from: ShopSource }) {
  const list = useRef<HTMLUListElement>(null);
  const wanted = queryValue("sort");
  const sort = SORTS.find((by) => by === wanted) ?? "help";
  const { shown, held, hold } = useOrder(from, list, sort, queryValue("group"), queryValue("q"));
  const { shop, ready, failure } = from;
  const there = ready.value && shop.value !== null;
  useEffect(() => {
    if (there) arrived();
  }, [there]);
  return (
    <>
      <Title text={t("floor.title", { shop: from.shopId })} />
      {!there || !shop.value ? (
        <Failure error={failure.value} />
      ) : (
        <>
          <Totals shop={shop.value} />
          <section aria-labelledby="agents-title">
            <h2 id="agents-title" class="hidden">
              {t("floor.agents")}
            </h2>
            <Tools from={from} sort={sort} shown={shown.value} held={held.value} />
            <AlertsCut cut={from.alertsCut.value} />
            {shown.value.ids.length === 0 && <p class="empty">{t(shown.value.all === 0 ? "floor.empty" : "floor.none")}</p>}
            <ul class="cards" ref={list} {...hold}>
              {shown.value.ids.map((id) => (
                <Card key={id} from={from} id={id} />
              ))}
            </ul>
          </section>
        </>
      )}
    </>
  );
}
