// The paths of the page, and the views they stand for.

export type Route =
  | { view: "home" }
  | { view: "floor"; shop: string }
  | { view: "agent"; shop: string; agent: string }
  | { view: "screen"; shop: string }
  | { view: "alerts" }
  | { view: "unknown" };

function decode(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}

/** The route of a path. */
export function parse(path: string): Route {
  const parts = path.split("/").filter(Boolean).map(decode);
  const [view, shop, agent] = parts;
  if (parts.includes(null)) return { view: "unknown" };
  if (parts.length === 0) return { view: "home" };
  if (view === "alerts" && parts.length === 1) return { view };
  if ((view === "floor" || view === "screen") && shop && parts.length === 2) return { view, shop };
  if (view === "agent" && shop && agent && parts.length === 3) return { view, shop, agent };
  return { view: "unknown" };
}

export const paths = {
  floor: (shop: string) => `/floor/${encodeURIComponent(shop)}`,
  agent: (shop: string, agent: string) => `/agent/${encodeURIComponent(shop)}/${encodeURIComponent(agent)}`,
  screen: (shop: string) => `/screen/${encodeURIComponent(shop)}`,
  alerts: (shop?: string) => (shop ? `/alerts?shop=${encodeURIComponent(shop)}` : "/alerts"),
};
