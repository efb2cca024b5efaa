// Alerts, open and past, of the shops one sees.

import { signal } from "@preact/signals";
import { useEffect, useMemo, useState } from "preact/hooks";
import { lang, source, t } from "../app_state";
import { api, type AlertQuery } from "../lib/api";
import { count } from "../lib/format";
import { worstOpen } from "../lib/open_alerts";
import { RULES, SEVERITIES, type Alert } from "../lib/types";
import { arrived, queryValue, setQuery } from "../router";
import { PollSource } from "../poll_source";
import { AlertItem } from "./alert_item";
import { Choice, Title } from "./parts";
import { Failure, shopIds } from "./shell";

/** How often alerts are asked for (ms). */
const POLL_MS = 1_500;

/** Alerts of one answer. */
const PAGE = 100;

/** Alerts shown at most. */
const SHOWN_MAX = 1_000;

type State = "open" | "past" | "all";
const STATES: readonly State[] = ["open", "past", "all"];

function wanted(): AlertQuery {
  const state = STATES.find((value) => value === queryValue("state")) ?? "open";
  return { shop: queryValue("shop"), agent: queryValue("agent"), rule: queryValue("rule"), severity: queryValue("severity"), state };
}

/** Open ones by need; past ones, newest first, as they come. */
async function asked(query: AlertQuery, limit: number): Promise<Alert[]> {
  if (query.state === "open") return worstOpen(api.alerts, query, limit);
  return (await api.alerts({ ...query, limit })).alerts;
}

/** Asks for what the filters say, as long as the view is there; the filters may change meanwhile. */
function useAlerts(filters: string) {
  const list = useMemo(() => signal<Alert[] | null>(null), [filters]);
  const limit = useMemo(() => signal(PAGE), [filters]);
  const from = useMemo(() => {
    const query = JSON.parse(filters) as AlertQuery;
    return new PollSource(async () => {
      list.value = await asked(query, limit.peek());
    }, POLL_MS);
  }, [filters]);
  useEffect(() => {
    source.value = from;
    return () => from.close();
  }, [from]);
  const more = () => {
    limit.value = Math.min(SHOWN_MAX, limit.peek() + PAGE);
    void from.poll();
  };
  return { from, list, limit, more };
}

function Filters({ query }: { query: AlertQuery }) {
  const any: [string, string] = ["", t("alerts.any")];
  const [agent, setAgent] = useState(query.agent ?? "");
  return (
    <form class="tools" role="search" aria-label={t("alerts.filter")} onSubmit={(event) => event.preventDefault()}>
      <fieldset class="tabs">
        <legend class="hidden">{t("alerts.state")}</legend>
        {STATES.map((state) => (
          <label key={state}>
            <input
              type="radio"
              name="state"
              value={state}
              checked={query.state === state}
              data-keep={`state-${state}`}
              onChange={() => setQuery({ state: state === "open" ? "" : state })}
            />
            <span>{t(`alerts.${state}`)}</span>
          </label>
        ))}
      </fieldset>
      <Choice
        label={t("alerts.severity")}
        keep="severity"
        value={query.severity ?? ""}
        options={[any, ...SEVERITIES.map((value): [string, string] => [value, t(`severity.${value}`)])]}
        onChoose={(severity) => setQuery({ severity })}
      />
      <Choice
        label={t("alerts.rule")}
        keep="rule"
        value={query.rule ?? ""}
        options={[any, ...RULES.map((value): [string, string] => [value, t(`rule.${value}`)])]}
        onChoose={(rule) => setQuery({ rule })}
      />
      {shopIds.value.length > 1 && (
        <Choice
          label={t("alerts.shop")}
          keep="alert-shop"
          value={query.shop ?? ""}
          options={[any, ...shopIds.value.map((id): [string, string] => [id, id])]}
          onChoose={(shop) => setQuery({ shop })}
        />
      )}
      <label class="field">
        <span>{t("alerts.agent")}</span>
        <input type="search" data-keep="alert-agent" value={agent} onInput={(event) => setAgent(event.currentTarget.value)} onChange={(event) => setQuery({ agent: event.currentTarget.value.trim() })} />
      </label>
    </form>
  );
}

export function Alerts() {
  const query = wanted();
  const { from, list, limit, more } = useAlerts(JSON.stringify(query));
  const alerts = list.value;
  const shops = from.shops.value ?? [];
  const shopOf = (id: string) => shops.find((shop) => shop.shop_id === id);
  const there = alerts !== null;
  useEffect(() => {
    if (there) arrived();
  }, [there]);
  return (
    <>
      <Title text={t("alerts.title")} />
      <Filters query={query} />
      {alerts === null ? (
        <Failure error={from.failure.value} />
      ) : (
        <>
          <p class="muted count" role="status">
            {t("alerts.shown", { n: alerts.length })}
          </p>
          {alerts.length === 0 && <p class="empty">{t(query.state === "open" && !query.rule && !query.severity ? "alerts.all_quiet" : "alerts.none")}</p>}
          <ul class="alerts">
            {alerts.map((alert) => (
              <AlertItem
                key={alert.alert_id}
                alert={alert}
                offset={shopOf(alert.shop_id)?.utc_offset_minutes ?? -new Date().getTimezoneOffset()}
                now={shopOf(alert.shop_id)?.at ?? alert.at}
                onChange={() => void from.poll()}
              />
            ))}
          </ul>
          {alerts.length >= limit.value && limit.value < SHOWN_MAX && (
            <button type="button" onClick={more} data-keep="more">
              {t("alerts.more")}
            </button>
          )}
          {alerts.length >= SHOWN_MAX && <p class="muted">{t("alerts.end", { n: count(SHOWN_MAX, lang.value) })}</p>}
        </>
      )}
    </>
  );
}
