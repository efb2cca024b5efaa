// Small parts of all views: figures with their raw values, running clocks, severities, filters.

import { useEffect, useRef, useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { lang, source, t } from "../app_state";
import { column, type Figure } from "../lib/figures";
import { clock, count, latency, money, moneyShort, percent, type Lang } from "../lib/format";
import type { Key } from "../lib/i18n";
import { SEVERITIES, type Figures, type OpenAlerts, type Severity } from "../lib/types";
import { HELD_MAX } from "../lib/open_alerts";
import { cameFromView } from "../router";
import { every } from "../ticker";

export type Format = "count" | "percent" | "latency" | "money" | "moneyShort";

const formats: Record<Format, (value: number | null, lang: Lang) => string> = { count, percent, latency, money, moneyShort };

/** A figure as text, with its name and raw value beside it. */
export function Fig({ figure, as = "count" }: { figure: Figure; as?: Format }) {
  const title = as === "moneyShort" ? money(figure.value, lang.value) : undefined;
  return (
    <span class="fig" data-figure={figure.name} data-value={figure.raw} title={title}>
      {formats[as](figure.value, lang.value)}
    </span>
  );
}

/** A column as a figure. */
export function Col({ of, name, as = "count" }: { of: Figures; name: string; as?: Format }) {
  return <Fig figure={column(of, name)} as={as} />;
}

/** A term and its figure, in a `dl`. */
export function Pair({ label, children, class: names }: { label: Key; children: ComponentChildren; class?: string }) {
  return (
    <div class={names}>
      <dt>{t(label)}</dt>
      <dd>{children}</dd>
    </div>
  );
}

/** How long a wait is, as a level of urgency: the limits of the rule about waiting buyers. */
function urgency(ageMs: number): string {
  if (ageMs >= 300_000) return "critical";
  if (ageMs >= 180_000) return "major";
  return ageMs >= 100_000 ? "warning" : "calm";
}

/** A clock that runs from `since` (log time) to the present log time; its text never goes through the view library. */
export function LiveClock({ since }: { since: number }) {
  const element = useRef<HTMLSpanElement>(null);
  useEffect(() => {
    let text = "";
    return every((nowMs) => {
      const now = source.peek()?.clock?.now(nowMs);
      const span = element.current;
      if (now === null || now === undefined || !span) return;
      const age = Math.max(0, now - since);
      const next = clock(age);
      if (next === text) return;
      text = next;
      span.textContent = next;
      span.dataset["urgency"] = urgency(age);
    });
  }, [since]);
  return <span class="clock" ref={element} data-figure="oldest_since" data-value={since} />;
}

/** A value computed ten times a second at most; the component is rendered only when it changes. */
export function useTicked<V>(compute: (nowMs: number) => V, inputs: readonly unknown[]): V {
  const [value, setValue] = useState<V>(() => compute(performance.now()));
  useEffect(() => every((nowMs) => setValue(compute(nowMs))), inputs);
  return value;
}

const SHAPES: Record<Severity, string> = {
  critical: "M5 1h6l4 4v6l-4 4H5l-4-4V5z",
  major: "M8 1.2L15.4 14.6H.6z",
  warning: "M8 .8L15.2 8 8 15.2.8 8z",
};

/** A shape for each severity, so that colour is not all that tells them apart. */
export function SeverityIcon({ severity }: { severity: Severity }) {
  return (
    <svg class="icon" viewBox="0 0 16 16" width="12" height="12" aria-hidden="true">
      <path d={SHAPES[severity]} fill="currentColor" />
    </svg>
  );
}

export function SeverityBadge({ severity, children }: { severity: Severity; children?: ComponentChildren }) {
  return (
    <span class={`badge ${severity}`}>
      <SeverityIcon severity={severity} /> {t(`severity.${severity}`)}
      {children}
    </span>
  );
}

/** Open alerts by severity; nothing where there are none. */
export function OpenBadges({ open }: { open: OpenAlerts | undefined }) {
  const some = SEVERITIES.filter((severity) => (open?.[severity] ?? 0) > 0);
  if (!open || some.length === 0) return null;
  return (
    <span class="badges">
      {some.map((severity) => (
        <span key={severity} class={`badge ${severity}`} data-figure={`open_alerts.${severity}`} data-value={open[severity]}>
          <SeverityIcon severity={severity} /> {t(`severity.${severity}`)} {open[severity]}
        </span>
      ))}
    </span>
  );
}

/** Says that milder alerts are left out. */
export function AlertsCut({ cut }: { cut: boolean }) {
  return cut ? (
    <p class="muted" data-cut="alerts" role="status">
      {t("alerts.cut", { n: count(HELD_MAX, lang.value) })}
    </p>
  ) : null;
}

/** A labelled choice. */
export function Choice(props: { label: string; value: string; keep: string; options: [string, string][]; onChoose: (value: string) => void; quiet?: boolean }) {
  return (
    <label class="field">
      <span class={props.quiet ? "hidden" : ""}>{props.label}</span>
      <select value={props.value} data-keep={props.keep} onChange={(event) => props.onChoose(event.currentTarget.value)}>
        {props.options.map(([value, text]) => (
          <option key={value} value={value} selected={value === props.value}>
            {text}
          </option>
        ))}
      </select>
    </label>
  );
}

/** The heading of a view: takes the focus when one arrives from another view, and names the document. */
export function Title({ children, text, class: names }: { children?: ComponentChildren; text: string; class?: string }) {
  const element = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    if (!cameFromView()) return;
    if (document.activeElement === document.body || document.activeElement === null) element.current?.focus({ preventScroll: true });
  }, []);
  useEffect(() => {
    document.title = `${text} · Peakdesk`;
  }, [text]);
  return (
    <h1 tabIndex={-1} ref={element} class={names}>
      {children ?? text}
    </h1>
  );
}
