// Answers asked for again and again: for views over several shops, and for the alerts of an agent, who sees no shop.

import { batch, signal } from "@preact/signals";
import { announcement, me, t } from "./app_state";
import { api, ApiError } from "./lib/api";
import { ServerClock } from "./lib/clock";
import type { ShopLive } from "./lib/types";
import { reconcile, type Link, type Source } from "./source";

interface Answer {
  shops: ShopLive[];
  wallMs: number;
  /** When the figures were sent; of several shops, those that are the oldest; null where there are none. */
  sentWallMs: number | null;
}

async function ofShops(): Promise<Answer> {
  const { shops, wall_ms } = await api.shops();
  return { shops, wallMs: wall_ms, sentWallMs: shops.length === 0 ? null : Math.min(...shops.map((shop) => shop.sent_wall_ms)) };
}

/** An agent is told when the figures of its shop were sent; nothing before its first day. */
async function ofAgent(shop: string, agent: string): Promise<Answer> {
  try {
    const { wall_ms, sent_wall_ms } = await api.agent(shop, agent);
    return { shops: [], wallMs: wall_ms, sentWallMs: sent_wall_ms };
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return { shops: [], wallMs: Date.now(), sentWallMs: null };
    throw error;
  }
}

export class PollSource implements Source {
  readonly link = signal<Link>("connecting");
  readonly shop = signal<ShopLive | null>(null);
  readonly shops = signal<ShopLive[] | null>(null);
  readonly failure = signal<ApiError | null>(null);
  readonly clock = null;
  #server = new ServerClock();
  #sentWallMs: number | null = null;
  #timer = 0;
  #closed = false;

  /** `more`: asked for along with the shops; `everyMs`: the pause between two rounds. */
  constructor(
    readonly more: () => Promise<void>,
    readonly everyMs: number,
  ) {
    void this.poll();
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  #onVisibility = (): void => {
    if (!document.hidden) void this.poll();
  };

  async poll(): Promise<void> {
    window.clearTimeout(this.#timer);
    if (this.#closed || document.hidden) return;
    try {
      const who = me.peek();
      const [shop, agent] = [who?.shops[0], who?.role === "agent" ? who.agent : null];
      const [answer] = await Promise.all([shop && agent ? ofAgent(shop, agent) : ofShops(), this.more()]);
      if (this.#closed) return;
      this.#server.observe(answer.wallMs, performance.now());
      this.#sentWallMs = answer.sentWallMs;
      if (this.link.value === "lost") announcement.value = t("state.back");
      batch(() => {
        this.link.value = "live";
        this.failure.value = null;
        this.shops.value = answer.shops;
        this.shop.value = answer.shops.find((shop) => shop.sent_wall_ms === answer.sentWallMs) ?? null;
      });
    } catch (error) {
      this.failure.value = reconcile(error);
      if (this.link.value === "live") announcement.value = t("state.lost");
      this.link.value = "lost";
    }
    window.clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = window.setTimeout(() => void this.poll(), this.everyMs);
  }

  ageMs(nowMs: number): number | null {
    return this.#server.ageMs(this.#sentWallMs, nowMs);
  }

  close(): void {
    this.#closed = true;
    window.clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }
}
