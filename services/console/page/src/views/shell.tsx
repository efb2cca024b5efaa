// Around every view: navigation, the state of the connection, language and theme, signing in.

import { signal } from "@preact/signals";
import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { announcement, chooseLang, chooseTheme, lang, me, source, t, theme, type Theme } from "../app_state";
import { api, ApiError } from "../lib/api";
import { duration, timeOfDay } from "../lib/format";
import { paths, type Route } from "../lib/route";
import { navigate } from "../router";
import { Choice, Title, useTicked } from "./parts";

/** Ids of the shops one may see, for the choice of a shop; asked for once. */
export const shopIds = signal<string[]>([]);

/** Figures older than this (ms) are called old. */
const STALE_MS = 10_000;

/** A simulation is named from this speed on. */
const SPEED_MIN = 1.5;

function useAge(): number | null {
  return useTicked((nowMs) => {
    const age = source.peek()?.ageMs(nowMs);
    return age === null || age === undefined ? null : Math.floor(age / 100) * 100;
  }, [source.value]);
}

/** Seconds with a tenth below ten, so that a living connection is seen to live. */
function ageText(ms: number): string {
  if (ms >= 10_000) return duration(ms, lang.value);
  return lang.value === "zh" ? `${(ms / 1000).toFixed(1)}秒` : `${(ms / 1000).toFixed(1)} s`;
}

function LogTime() {
  const from = source.value;
  const shop = from?.shop.value;
  const text = useTicked(
    (nowMs) => {
      const now = from?.clock?.now(nowMs);
      return now === null || now === undefined ? "" : timeOfDay(now, shop?.utc_offset_minutes ?? 0);
    },
    [from, shop?.utc_offset_minutes],
  );
  if (text === "" || !shop) return null;
  const rate = from?.clock?.rate ?? 1;
  return (
    <span class="log-time" title={t("state.log_time")}>
      <span class="hidden">{t("state.log_time")}</span> {shop.day.slice(5)} {text}
      {rate >= SPEED_MIN && <span class="speed">{t("state.speed", { rate: rate < 10 ? rate.toFixed(1) : Math.round(rate) })}</span>}
    </span>
  );
}

/** Connection and age of the figures; always there, always up to date. */
export function Status() {
  const link = source.value?.link.value ?? "connecting";
  const age = useAge();
  return (
    <div class="status" data-link={link}>
      <span class={`dot ${link}`} aria-hidden="true" />
      <span>{t(`state.${link}`)}</span>
      {age !== null && (
        <span class="age" data-age={age}>
          {t("state.age", { age: ageText(age) })}
        </span>
      )}
      <LogTime />
    </div>
  );
}

/** What is wrong with the figures, if anything: the connection, their source, or that they are not complete. */
export function Banner() {
  const from = source.value;
  const link = from?.link.value ?? "connecting";
  const age = useAge();
  const slow = age === null ? null : Math.floor(age / 1000) * 1000;
  let text = "";
  if (link === "lost") text = slow === null ? t("state.lost") : t("state.lost_long", { age: duration(slow, lang.value) });
  else if (link === "live" && slow !== null && slow > STALE_MS) text = t("state.stale", { age: duration(slow, lang.value) });
  else if (link === "live" && from?.shop.value?.caught_up === false) text = t("state.behind");
  return text === "" ? null : (
    <p class={`banner ${link}`} data-banner={link}>
      {text}
    </p>
  );
}

export function Settings() {
  const themes: Theme[] = ["auto", "light", "dark"];
  return (
    <div class="settings">
      <Choice
        label={t("settings.theme")}
        quiet
        keep="theme"
        value={theme.value}
        options={themes.map((value) => [value, t(`theme.${value}`)])}
        onChoose={(value) => chooseTheme(value as Theme)}
      />
      <button type="button" class="plain" data-keep="lang" lang={lang.value === "zh" ? "en" : "zh-CN"} onClick={() => chooseLang(lang.value === "zh" ? "en" : "zh")}>
        {lang.value === "zh" ? "English" : "中文"}
      </button>
    </div>
  );
}

function Nav({ route, shop }: { route: Route; shop: string | null }) {
  const link = (view: Route["view"], href: string, text: string) => (
    <a href={href} aria-current={route.view === view ? "page" : undefined} data-keep={`nav-${view}`}>
      {text}
    </a>
  );
  const agent = me.value?.agent ?? null;
  return (
    <nav aria-label={t("nav.label")}>
      {shopIds.value.length > 1 && link("home", "/", t("nav.shops"))}
      {shop !== null && agent === null && link("floor", paths.floor(shop), t("nav.floor"))}
      {shop !== null && agent !== null && link("agent", paths.agent(shop, agent), agent)}
      {link("alerts", paths.alerts(shop ?? undefined), t("nav.alerts"))}
      {shop !== null && agent === null && link("screen", paths.screen(shop), t("nav.screen"))}
    </nav>
  );
}

/** Ends the session, and asks again who one is: behind a proxy, or where nobody has to sign in, one stays. */
async function signOut(then: () => void): Promise<void> {
  try {
    await api.logout();
  } finally {
    then();
  }
}

/** Header, banner and main part; `shop`: the shop one is in. */
export function Shell({ route, shop, onSignOut, children }: { route: Route; shop: string | null; onSignOut: () => void; children: ComponentChildren }) {
  const ids = shopIds.value;
  const many = me.value?.role !== "agent" && shop !== null && ids.length > 1 && (route.view === "floor" || route.view === "agent");
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => (event.preventDefault(), document.getElementById("main")?.focus())}>
        {t("nav.skip")}
      </a>
      <header class="top">
        <a class="brand" href="/" data-keep="brand">
          Peakdesk
        </a>
        {many && shop !== null && (
          <Choice label={t("nav.shop")} quiet keep="shop" value={shop} options={ids.map((id) => [id, id])} onChoose={(id) => navigate(paths.floor(id))} />
        )}
        <Nav route={route} shop={shop} />
        <Status />
        <Settings />
        {me.value && (
          <button type="button" class="plain user" onClick={() => void signOut(onSignOut)} title={me.value.user}>
            {t("login.out")}
          </button>
        )}
      </header>
      <Banner />
      <main id="main" tabIndex={-1}>
        {children}
      </main>
    </>
  );
}

/** What is said to screen readers, once, wherever one is. */
export function Announcer() {
  return (
    <p class="hidden" role="status" aria-live="polite">
      {announcement.value}
    </p>
  );
}

/** Exchanges a token for a session cookie; the token stays in the form and is gone with it. */
export function Login({ onDone }: { onDone: () => void }) {
  const [wrong, setWrong] = useState("");
  const [busy, setBusy] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    const form = event.currentTarget as HTMLFormElement;
    const token = String(new FormData(form).get("token") ?? "").trim();
    setBusy(true);
    try {
      await api.login(token);
      form.reset();
      setWrong("");
      onDone();
    } catch (error) {
      const refused = error instanceof ApiError && (error.status === 401 || error.status === 403);
      setWrong(refused ? t("login.wrong") : t("login.failed", { why: (error as Error).message }));
    } finally {
      setBusy(false);
    }
  };
  return (
    <main class="login" id="main">
      <form onSubmit={(event) => void submit(event)}>
        <Title text={t("login.title")}>Peakdesk</Title>
        <label class="field">
          <span>{t("login.token")}</span>
          <input type="password" name="token" autocomplete="off" required aria-describedby="login-hint" />
        </label>
        <p id="login-hint" class="muted">
          {t("login.hint")}
        </p>
        <p role="alert" class="wrong">
          {wrong}
        </p>
        <button type="submit" disabled={busy}>
          {t("login.submit")}
        </button>
      </form>
      <Settings />
    </main>
  );
}

/** Why a view has nothing to show. */
export function Failure({ error }: { error: ApiError | null }) {
  if (!error) return <p class="empty">{t("state.loading")}</p>;
  if (error.status === 403) return <p class="empty">{t("error.forbidden")}</p>;
  if (error.status === 404) return <p class="empty">{t("error.not_found")}</p>;
  return <p class="empty">{t("error.server", { why: error.message })}</p>;
}
