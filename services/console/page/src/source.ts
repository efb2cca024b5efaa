// Where the figures of a shop, or of one agent, come from: an event stream, and what it begins from.
//
//   open ──► event stream opens ──► fetch the present state ──► events, each the newest value of its key
//                 ▲                                                      │ reset: fetch again
//                 └── lost: the browser resumes by itself (Last-Event-ID); refused for good: we open anew, with back-off
//
// What always holds: an older value never replaces a newer one, nor does a snapshot what was heard while it was asked for; events wait
// for an animation frame and take a bounded share of it; a stream that is silent is doubted, and the server asked; figures are as old as
// the scorer's last word, whoever else answers; a page that nobody sees lets go of its connection.

import { batch, computed, signal, type Signal } from "@preact/signals";
import { announcement, me, t } from "./app_state";
import { api, ApiError } from "./lib/api";
import { LogClock, ServerClock } from "./lib/clock";
import { AlertBook, openAlerts } from "./lib/open_alerts";
import { severityRank } from "./lib/rank";
import type { AgentDetail, AgentLive, Alert, Curve, OpenAlerts, ShopLive } from "./lib/types";

export type Link = "connecting" | "live" | "lost";

/** What the page says about its connection and the age of what it shows. */
export interface Source {
  link: Signal<Link>;
  /** The newest word of the shop (for many: of the one whose word is the oldest). */
  shop: Signal<ShopLive | null>;
  /** Log time; null where there is more than one log. */
  clock: LogClock | null;
  /** Age of the figures in wall ms; null before the first. */
  ageMs(nowMs: number): number | null;
  close(): void;
}

/** A shop is heard from every second; silence beyond this (ms) is doubted. */
const SILENCE_MS = 6_000;

/** Agents updated in one animation frame at most: a few milliseconds' work, and 300 are done in a sixth of a second. */
const AGENTS_PER_FRAME = 30;

/** A page unseen for this long (ms) lets go of its connection. */
const UNSEEN_MS = 300_000;

const RETRY_MS = [500, 1_000, 2_000, 4_000, 8_000];

/** For how long clocks of an agent's own page run on after the shop was heard of (ms): from one question to the next, and a bit. */
const OWN_RUN_ON_MS = SILENCE_MS + 4_000;

const NOTHING: OpenAlerts = { warning: 0, major: 0, critical: 0 };

/** What went wrong, as far as it is known; without a session nobody is signed in any more. */
export function reconcile(error: unknown): ApiError {
  const known = error instanceof ApiError ? error : new ApiError(0, String(error));
  if (known.status === 401) me.value = null;
  return known;
}

/** A shop, or one agent of it, by its event stream. */
export class ShopSource implements Source {
  readonly link = signal<Link>("connecting");
  readonly shop = signal<ShopLive | null>(null);
  readonly agents = new Map<string, Signal<AgentLive>>();
  /** Ids of the agents, as a new list whenever there is another. */
  readonly agentIds = signal<string[]>([]);
  readonly detail = signal<AgentDetail | null>(null);
  readonly curves = signal<ReadonlyMap<number, Curve>>(new Map());
  /** Open alerts by id. */
  readonly alerts = signal<ReadonlyMap<string, Alert>>(new Map());
  /** Whether there are more open alerts than the page holds. */
  readonly alertsCut = signal(false);
  /** Whether the first state has come. */
  readonly ready = signal(false);
  /** Why there is nothing to show. */
  readonly failure = signal<ApiError | null>(null);
  readonly clock = new LogClock();

  #server = new ServerClock();
  #book = new AlertBook();
  /** When the scorer last sent figures of the shop (wall ms), as far as we have been told, and when we were told (our own ms). */
  #sentWallMs: number | null = null;
  #toldMs = performance.now();
  #events: EventSource | null = null;
  #heardMs = performance.now();
  #pending = new Map<string, AgentLive>();
  #frame = 0;
  #attempt = 0;
  #retry = 0;
  #watch: number;
  #unseen = 0;
  #closed = false;
  #fetching = false;
  #ownAt = 0;
  #refetch = false;

  /**
   * `agent`: only this one, with its detail; `curves`: hours of minute curves to begin with; `own`: for an agent, who sees nothing of
   * the shop: log time is then that of the agent's own changes, and as they are not regular, it runs on while the shop is heard of, which
   * is asked for where no change brings word of it.
   */
  constructor(
    readonly shopId: string,
    readonly agentId: string | null,
    readonly curveHours: number,
    readonly own: boolean,
  ) {
    this.#connect();
    this.#watch = window.setInterval(() => void this.#doubt(), 1_000);
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Open alerts by agent; the shop's own under "". */
  readonly openByAgent = computed(() => {
    const counts = new Map<string, OpenAlerts>();
    for (const alert of this.alerts.value.values()) {
      const key = alert.agent_id ?? "";
      const open = counts.get(key) ?? { ...NOTHING };
      open[alert.severity] += 1;
      counts.set(key, open);
    }
    return counts;
  });

  #openSignals = new Map<string, Signal<OpenAlerts>>();

  /** Open alerts of an agent, which only changes when they do. */
  open(agent: string): OpenAlerts {
    let counts = this.#openSignals.get(agent);
    if (!counts) {
      const text = computed(() => JSON.stringify(this.openByAgent.value.get(agent) ?? NOTHING));
      counts = computed(() => JSON.parse(text.value) as OpenAlerts);
      this.#openSignals.set(agent, counts);
    }
    return counts.value;
  }

  ageMs(nowMs: number): number | null {
    return this.#server.ageMs(this.#sentWallMs, nowMs);
  }

  close(): void {
    this.#closed = true;
    this.#disconnect();
    window.clearInterval(this.#watch);
    window.clearTimeout(this.#unseen);
    cancelAnimationFrame(this.#frame);
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  #onVisibility = (): void => {
    window.clearTimeout(this.#unseen);
    if (document.hidden) this.#unseen = window.setTimeout(() => this.#disconnect(), UNSEEN_MS);
    else if (!this.#events && this.#retry === 0) this.#connect();
  };

  #disconnect(): void {
    window.clearTimeout(this.#retry);
    this.#retry = 0;
    this.#events?.close();
    this.#events = null;
  }

  #connect(): void {
    this.#disconnect();
    if (this.#closed) return;
    const events = new EventSource(api.eventsPath(this.shopId, this.agentId ?? undefined));
    this.#events = events;
    let first = true;
    events.onopen = () => {
      this.#heard();
      if (first) void this.#fetch();
      first = false;
    };
    events.onerror = () => {
      this.#lose();
      if (events.readyState === EventSource.CLOSED) this.#again();
    };
    const on = <V>(name: string, take: (value: V) => void) =>
      events.addEventListener(name, (event) => {
        this.#heard();
        batch(() => take(JSON.parse((event as MessageEvent<string>).data) as V));
      });
    on<ShopLive>("shop", (value) => this.#takeShop(value));
    on<AgentLive>("agent", (value) => this.#takeAgent(value));
    on<AgentDetail>("detail", (value) => this.#takeDetail(value));
    on<Curve>("curve", (value) => this.#takeCurves([value]));
    on<Alert>("alert", (value) => this.#takeAlert(value));
    events.addEventListener("reset", () => {
      this.#heard();
      void this.#fetch();
    });
  }

  /** Opens anew, later each time; first asks whether it is for want of a session. */
  #again(): void {
    const delay = RETRY_MS[Math.min(this.#attempt, RETRY_MS.length - 1)]!;
    this.#attempt += 1;
    window.clearTimeout(this.#retry);
    this.#retry = window.setTimeout(() => {
      this.#retry = 0;
      api.me().then(
        () => this.#connect(),
        (error: unknown) => {
          if (reconcile(error).status !== 401) this.#again();
        },
      );
    }, delay * (0.75 + Math.random() / 2));
  }

  #heard(): void {
    this.#heardMs = performance.now();
    this.#attempt = 0;
    if (this.link.value === "lost") announcement.value = t("state.back");
    this.link.value = "live";
  }

  /** Figures were sent at `sentWallMs` (null or 0: not known); that a server answers, or that one event came, does not make others younger. */
  #told(sentWallMs: number | null): void {
    if (!sentWallMs) return;
    const now = performance.now();
    this.#toldMs = now;
    if (sentWallMs <= (this.#sentWallMs ?? 0)) return;
    this.#sentWallMs = sentWallMs;
    if (this.own) this.clock.runOn(now, OWN_RUN_ON_MS);
  }

  #lose(): void {
    if (this.link.value === "live") announcement.value = t("state.lost");
    if (this.link.value !== "connecting" || this.ready.value) this.link.value = "lost";
  }

  /** Silence has two causes: no connection, which the server's silence shows too, or nothing to say. An agent's own stream may say much, and nothing of the shop. */
  async #doubt(): Promise<void> {
    const lastMs = this.own ? Math.min(this.#heardMs, this.#toldMs) : this.#heardMs;
    if (document.hidden || !this.#events || this.#fetching || performance.now() - lastMs < SILENCE_MS) return;
    this.#fetching = true;
    try {
      const newer = await this.#isBehind();
      this.#heard();
      if (newer && this.ready.value) this.#connect();
    } catch (error) {
      if (reconcile(error).status === 0) {
        this.#lose();
        this.#heardMs = this.#toldMs = performance.now() - SILENCE_MS / 2;
        if (this.#events.readyState === EventSource.OPEN) this.#connect();
      }
    } finally {
      this.#fetching = false;
    }
  }

  /** Whether the server knows more than we do. */
  async #isBehind(): Promise<boolean> {
    if (this.own) {
      const answer = await api.agent(this.shopId, this.agentId!);
      this.#server.observe(answer.wall_ms, performance.now());
      this.#toldMs = performance.now();
      this.#told(answer.sent_wall_ms);
      return answer.live.at > (this.agents.get(this.agentId!)?.peek().at ?? 0);
    }
    return (await api.shop(this.shopId)).sent_wall_ms > (this.#sentWallMs ?? 0);
  }

  async #fetch(): Promise<void> {
    if (this.#fetching) {
      this.#refetch = true;
      return;
    }
    this.#fetching = true;
    try {
      await this.#fetchAll();
      this.failure.value = null;
      this.ready.value = true;
    } catch (error) {
      this.failure.value = reconcile(error);
      if (this.failure.value.status !== 401 && this.failure.value.status !== 403) window.setTimeout(() => !this.#closed && void this.#fetch(), 2_000);
    } finally {
      this.#fetching = false;
      if (this.#refetch) {
        this.#refetch = false;
        void this.#fetch();
      }
    }
  }

  async #fetchAll(): Promise<void> {
    this.#book.begin();
    const alertsOf = this.agentId === null ? { shop: this.shopId } : { shop: this.shopId, agent: this.agentId };
    const [shop, alerts, curves] = await Promise.all([
      this.own ? null : api.shop(this.shopId),
      openAlerts(api.alerts, alertsOf),
      this.curveHours > 0 ? api.curve(this.shopId, this.curveHours) : { curves: [] },
    ]);
    const agents = this.agentId === null ? await api.agents(this.shopId) : null;
    const agent = this.agentId === null ? null : await api.agent(this.shopId, this.agentId);
    batch(() => {
      this.#server.observe((agents ?? agent)!.wall_ms, performance.now());
      if (shop) this.#takeShop(shop);
      this.#book.replace(alerts);
      this.#showAlerts();
      this.#takeCurves(curves.curves);
      for (const live of agents?.agents ?? [agent!.live]) this.#setAgent(live);
      if (agent?.detail) this.#takeDetail(agent.detail);
      if (agent && this.own) this.#told(agent.sent_wall_ms);
    });
  }

  #takeShop(value: ShopLive): void {
    const known = this.shop.value;
    if (known && value.sent_wall_ms < known.sent_wall_ms) return;
    this.clock.observe(value.at, value.sent_wall_ms, performance.now());
    this.#told(value.sent_wall_ms);
    this.shop.value = value;
  }

  #takeAgent(value: AgentLive): void {
    if (this.agentId !== null && value.agent_id !== this.agentId) return;
    if (this.own) this.#told(value.sent_wall_ms);
    this.#pending.set(value.agent_id, value);
    if (this.#frame === 0) this.#frame = requestAnimationFrame(this.#flush);
  }

  #flush = (): void => {
    batch(() => {
      let left = AGENTS_PER_FRAME;
      for (const [id, value] of this.#pending) {
        if (left-- === 0) break;
        this.#pending.delete(id);
        this.#setAgent(value);
      }
    });
    this.#frame = this.#pending.size > 0 ? requestAnimationFrame(this.#flush) : 0;
  };

  #setAgent(value: AgentLive): void {
    if (this.own) this.#observeOwn(value.at);
    const known = this.agents.get(value.agent_id);
    if (!known) {
      this.agents.set(value.agent_id, signal(value));
      this.agentIds.value = [...this.agents.keys()];
    } else if (value.at >= known.peek().at) {
      known.value = value;
    }
  }

  #observeOwn(at: number): void {
    const now = this.clock.now(performance.now());
    // Two values of one moment, or of times apart: only time that moves on says something about its rate.
    if (now === null || at > this.#ownAt) this.clock.observe(at, Math.round(performance.now()), performance.now());
    this.#ownAt = Math.max(this.#ownAt, at);
  }

  #takeDetail(value: AgentDetail): void {
    const known = this.detail.peek();
    if (!known || value.at >= known.at) this.detail.value = value;
  }

  #takeCurves(values: Curve[]): void {
    if (values.length === 0) return;
    const curves = new Map(this.curves.peek());
    for (const value of values) {
      const known = curves.get(value.hour);
      if (!known || value.at >= known.at) curves.set(value.hour, value);
    }
    // A day and a bit; older hours leave the screen.
    for (const hour of [...curves.keys()].sort((a, b) => a - b).slice(0, -26)) curves.delete(hour);
    this.curves.value = curves;
  }

  #takeAlert(value: Alert): void {
    if (this.agentId !== null && value.agent_id !== this.agentId) return;
    const isNew = this.#book.take(value);
    if (isNew && value.state === "firing" && severityRank(value.severity) > 1) {
      announcement.value = t("alerts.new", { what: `${t(`severity.${value.severity}`)} ${value.agent_id ?? value.shop_id} ${t(`rule.${value.rule}`)}` });
    }
    this.#showAlerts();
    if (this.#book.hasRoomAgain) void this.#fetch();
  }

  #showAlerts(): void {
    this.alerts.value = this.#book.held;
    this.alertsCut.value = this.#book.isCut;
  }
}
