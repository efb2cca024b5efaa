// One alert: what, who, since when, how bad against what, on what grounds, and who has taken it.

import { useState } from "preact/hooks";
import { lang, me, t, tr } from "../app_state";
import { api } from "../lib/api";
import { dayTime, duration } from "../lib/format";
import type { Alert } from "../lib/types";
import { evidenceText, thresholdText, valueText } from "../lib/words";
import { paths } from "../lib/route";
import { LiveClock, SeverityBadge } from "./parts";

/** Notes are short; the server refuses longer ones (characters). */
const NOTE_MAX = 500;

function Scope({ alert }: { alert: Alert }) {
  if (alert.agent_id === null) {
    return (
      <>
        {alert.shop_id} · {t("alerts.whole_shop")}
      </>
    );
  }
  return (
    <a href={paths.agent(alert.shop_id, alert.agent_id)}>
      {alert.shop_id} · {alert.agent_id}
    </a>
  );
}

function wallTime(ms: number): string {
  const offset = -new Date(ms).getTimezoneOffset();
  return dayTime(ms, offset);
}

/** Who has taken it; or, where one may, the way to take it. */
function Acknowledgement({ alert, onChange }: { alert: Alert; onChange: () => void }) {
  const [failure, setFailure] = useState("");
  const [busy, setBusy] = useState(false);
  const may = me.value !== null && me.value !== undefined && (me.value.role === "supervisor" || me.value.role === "admin");
  const { acknowledged } = alert;
  const act = async (deed: () => Promise<void>) => {
    setBusy(true);
    try {
      await deed();
      setFailure("");
      onChange();
    } catch (error) {
      setFailure(t("alerts.ack_failed", { why: (error as Error).message }));
    } finally {
      setBusy(false);
    }
  };
  const submit = (event: Event) => {
    event.preventDefault();
    const note = String(new FormData(event.currentTarget as HTMLFormElement).get("note") ?? "").trim();
    void act(() => api.acknowledge(alert.alert_id, note));
  };
  return (
    <div class="ack">
      {acknowledged ? (
        <p class="taken" data-acknowledged={acknowledged.by}>
          ✓{" "}
          {t(acknowledged.note === "" ? "alerts.ack_by" : "alerts.ack_by_note", {
            by: acknowledged.by,
            time: wallTime(acknowledged.at_wall_ms),
            note: acknowledged.note,
          })}
          {may && (
            <button type="button" class="plain" disabled={busy} onClick={() => void act(() => api.takeBack(alert.alert_id))}>
              {t("alerts.ack_undo")}
            </button>
          )}
        </p>
      ) : may && alert.state === "firing" ? (
        <form onSubmit={submit}>
          <input name="note" maxLength={NOTE_MAX} placeholder={t("alerts.ack_note")} aria-label={t("alerts.ack_note")} autocomplete="off" data-keep={`note-${alert.alert_id}`} />
          <button type="submit" disabled={busy}>
            {t("alerts.ack")}
          </button>
        </form>
      ) : (
        <p class="muted">{t("alerts.ack_none")}</p>
      )}
      {failure !== "" && (
        <p role="alert" class="wrong">
          {failure}
        </p>
      )}
    </div>
  );
}

function Details({ alert, offset }: { alert: Alert; offset: number }) {
  const speech = { t: tr.value, lang: lang.value, offset };
  const evidence = alert.evidence.map((entry) => evidenceText(speech, entry)).filter((text): text is string => text !== null);
  return (
    <details>
      <summary data-keep={`details-${alert.alert_id}`}>
        {t("alerts.evidence")} · {t("alerts.history")}
      </summary>
      <ul class="evidence">
        {evidence.map((text) => (
          <li key={text}>{text}</li>
        ))}
        {evidence.length === 0 && <li>{t("evidence.none")}</li>}
      </ul>
      <ol class="history">
        {alert.transitions.map((transition) => (
          <li key={transition.at}>
            <time>{dayTime(transition.at, offset)}</time> {t(`kind.${transition.kind}`)} · {t(`severity.${transition.severity}`)} ·{" "}
            {valueText(speech, alert.rule, transition.value_num, transition.value_den)}
          </li>
        ))}
      </ol>
    </details>
  );
}

/** `now`: present log time, where no clock runs. */
export function AlertItem({ alert, offset, onChange, now }: { alert: Alert; offset: number; onChange: () => void; now?: number | undefined }) {
  const speech = { t: tr.value, lang: lang.value, offset };
  const threshold = thresholdText(speech, alert);
  const open = alert.state === "firing";
  return (
    <li class={`alert ${alert.severity} ${alert.state}`} data-alert={alert.alert_id} data-state={alert.state} data-severity={alert.severity} data-rule={alert.rule}>
      <article aria-labelledby={`alert-${alert.alert_id}`}>
        <h3 id={`alert-${alert.alert_id}`}>
          <SeverityBadge severity={alert.severity} />
          <span>{t(`rule.${alert.rule}`)}</span>
        </h3>
        <p class="scope">
          <Scope alert={alert} />
          <span class="muted">
            {open || alert.resolved_at === null ? (
              <>
                {t("alerts.since", { time: dayTime(alert.onset, offset) })}
                {" · "}
                {t("alerts.for")} {now === undefined ? <LiveClock since={alert.onset} /> : duration(now - alert.onset, lang.value)}
              </>
            ) : (
              t("alerts.resolved", { time: dayTime(alert.resolved_at, offset), duration: duration(alert.resolved_at - alert.onset, lang.value) })
            )}
          </span>
        </p>
        <dl class="measured">
          <div>
            <dt>{t(open ? "alerts.value" : "alerts.value_resolved")}</dt>
            <dd data-figure="value" data-value={`${alert.value_num}/${alert.value_den}`}>
              {valueText(speech, alert.rule, alert.value_num, alert.value_den)}
            </dd>
          </div>
          {threshold !== null && (
            <div>
              <dt>{t("alerts.threshold")}</dt>
              <dd>{threshold}</dd>
            </div>
          )}
        </dl>
        <Details alert={alert} offset={offset} />
        <Acknowledgement alert={alert} onChange={onChange} />
      </article>
    </li>
  );
}
