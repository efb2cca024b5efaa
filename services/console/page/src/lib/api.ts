// The console's API. Every answer is JSON; the session is a cookie that this code never sees.

import type { AgentDetail, AgentLive, Alert, Curve, Me, ShopLive } from "./types";

/** An answer that is not 2xx (its status), or none at all (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** How long an answer may take (ms). */
const TIMEOUT_MS = 15_000;

async function request(method: string, path: string, body?: unknown): Promise<Response> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), TIMEOUT_MS);
  try {
    const headers: Record<string, string> = { Accept: "application/json" };
    // A page of another origin cannot send this header without asking first.
    if (method !== "GET") headers["X-Peakdesk"] = "1";
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const init: RequestInit = { method, headers, signal: abort.signal, credentials: "same-origin", cache: "no-store" };
    if (body !== undefined) init.body = JSON.stringify(body);
    const response = await fetch(path, init);
    if (!response.ok) throw new ApiError(response.status, await reason(response));
    return response;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(0, abort.signal.aborted ? "timeout" : "network");
  } finally {
    clearTimeout(timer);
  }
}

async function reason(response: Response): Promise<string> {
  try {
    const body: unknown = await response.json();
    const error = (body as { error?: unknown } | null)?.error;
    if (typeof error === "string" && error !== "") return error;
  } catch {
    // The status says enough.
  }
  return `HTTP ${response.status}`;
}

async function get<T>(path: string): Promise<T> {
  return (await (await request("GET", path)).json()) as T;
}

const part = encodeURIComponent;

export interface AlertQuery {
  shop?: string;
  agent?: string;
  rule?: string;
  severity?: string;
  state?: "open" | "past" | "all";
  limit?: number;
  /** `next` of the answer before; "": the first. */
  before?: string;
}

function query(values: object): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(values)) if (value !== undefined && value !== "") search.set(key, String(value));
  const text = search.toString();
  return text === "" ? "" : `?${text}`;
}

export const api = {
  me: () => get<Me>("/api/me"),
  login: async (token: string) => void (await request("POST", "/api/login", { token })),
  logout: async () => void (await request("POST", "/api/logout")),
  shops: () => get<{ shops: ShopLive[]; wall_ms: number }>("/api/shops"),
  shop: (shop: string) => get<ShopLive>(`/api/shops/${part(shop)}`),
  curve: (shop: string, hours: number) => get<{ curves: Curve[] }>(`/api/shops/${part(shop)}/curve?hours=${hours}`),
  agents: (shop: string) => get<{ agents: AgentLive[]; wall_ms: number }>(`/api/shops/${part(shop)}/agents`),
  agent: (shop: string, agent: string) =>
    get<{ live: AgentLive; detail: AgentDetail | null; alerts: Alert[]; wall_ms: number; sent_wall_ms: number | null }>(`/api/shops/${part(shop)}/agents/${part(agent)}`),
  alerts: (wanted: AlertQuery) => get<{ alerts: Alert[]; next: string | null }>(`/api/alerts${query(wanted)}`),
  acknowledge: async (id: string, note: string) => void (await request("POST", `/api/alerts/${part(id)}/acknowledge`, { note })),
  takeBack: async (id: string) => void (await request("DELETE", `/api/alerts/${part(id)}/acknowledge`)),
  eventsPath: (shop: string, agent?: string) => `/api/events${query({ shop, agent })}`,
};
