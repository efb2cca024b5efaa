// Paths, and keeping one's place: the address holds route and filters; scroll position and focus outlive a reload.

import { signal } from "@preact/signals";

/** Path and query of the address. */
export const place = signal({ path: location.pathname, search: location.search });

const key = () => `peakdesk.place:${location.pathname}`;
/** Whether one came here from another view of the page, not by opening the page. */
let moved = false;

export const cameFromView = (): boolean => moved;

let restore: { scroll: number; focus: string } | null = null;

function remember(): void {
  const active = document.activeElement;
  const focus = active?.closest<HTMLElement>("[data-keep]")?.dataset["keep"] ?? "";
  try {
    sessionStorage.setItem(key(), JSON.stringify({ scroll: window.scrollY, focus }));
  } catch {
    // Without storage a reload begins at the top.
  }
}

function recall(): void {
  try {
    const text = sessionStorage.getItem(key());
    restore = text === null ? null : (JSON.parse(text) as { scroll: number; focus: string });
  } catch {
    restore = null;
  }
}

/** Called by a view once what it shows is there: goes back to where one was. */
export function arrived(): void {
  const wanted = restore;
  restore = null;
  if (!wanted) return;
  requestAnimationFrame(() => {
    if (wanted.focus !== "" && (document.activeElement === document.body || document.activeElement?.tagName === "H1")) {
      document.querySelector<HTMLElement>(`[data-keep="${CSS.escape(wanted.focus)}"]`)?.focus({ preventScroll: true });
    }
    window.scrollTo(0, wanted.scroll);
  });
}

function sync(): void {
  place.value = { path: location.pathname, search: location.search };
}

/** Goes to another address; `replace`: without an entry in the history. */
export function navigate(to: string, replace = false): void {
  remember();
  moved = true;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  restore = null;
  window.scrollTo(0, 0);
  sync();
}

/** A value of the query; "" if it is not there. */
export function queryValue(name: string): string {
  return new URLSearchParams(place.value.search).get(name) ?? "";
}

/** Sets values of the query without leaving the view; "" takes one out. */
export function setQuery(values: Record<string, string>): void {
  const search = new URLSearchParams(location.search);
  for (const [name, value] of Object.entries(values)) {
    if (value === "") search.delete(name);
    else search.set(name, value);
  }
  const text = search.toString();
  history.replaceState(null, "", location.pathname + (text === "" ? "" : `?${text}`));
  sync();
}

function onClick(event: MouseEvent): void {
  if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
  const link = (event.target as Element | null)?.closest?.("a");
  const href = link?.getAttribute("href");
  if (!link || !href || !href.startsWith("/") || href.startsWith("/assets/") || link.target !== "") return;
  event.preventDefault();
  navigate(href);
}

/** Takes over links, the history and the place. */
export function start(): void {
  history.scrollRestoration = "manual";
  recall();
  document.addEventListener("click", onClick);
  window.addEventListener("popstate", () => {
    moved = true;
    recall();
    sync();
  });
  window.addEventListener("pagehide", remember);
}
