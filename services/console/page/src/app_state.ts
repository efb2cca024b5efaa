// What all views share: who is signed in, language, theme, the place, and where figures come from.

import { computed, effect, signal } from "@preact/signals";
import type { Lang } from "./lib/format";
import { pickLanguage, translate, type T } from "./lib/i18n";
import type { Me } from "./lib/types";
import type { Source } from "./source";

export type Theme = "auto" | "light" | "dark";

/** Who is signed in: undefined until it is known, null when nobody is. */
export const me = signal<Me | null | undefined>(undefined);

/** Where the figures of the present view come from. */
export const source = signal<Source | null>(null);

/** A sentence for screen readers, said once. */
export const announcement = signal("");

// The page's own settings; nothing secret is ever stored.
const stored = {
  get(key: string): string | null {
    try {
      return localStorage.getItem(`peakdesk.${key}`);
    } catch {
      return null; // A browser that refuses storage forgets the setting, no more.
    }
  },
  set(key: string, value: string): void {
    try {
      localStorage.setItem(`peakdesk.${key}`, value);
    } catch {
      // As above.
    }
  },
};

const chosenLang = signal<Lang | null>(((value) => (value === "zh" || value === "en" ? value : null))(stored.get("lang")));

export const lang = computed<Lang>(() => chosenLang.value ?? pickLanguage(navigator.languages, me.value?.locale_default ?? "zh"));

export function chooseLang(value: Lang): void {
  chosenLang.value = value;
  stored.set("lang", value);
}

/** The translator into the present language. */
export const tr = computed<T>(() => {
  const present = lang.value;
  return (key, values) => translate(present, key, values);
});

/** Translates into the present language; a component that calls this is rendered anew when the language changes. */
export const t: T = (key, values) => tr.value(key, values);

export const theme = signal<Theme>(((value) => (value === "light" || value === "dark" ? value : "auto"))(stored.get("theme")));

export function chooseTheme(value: Theme): void {
  theme.value = value;
  stored.set("theme", value);
}

const systemDark = signal(matchMedia("(prefers-color-scheme: dark)").matches);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => (systemDark.value = event.matches));

/** The theme in effect. */
export const shade = computed<"light" | "dark">(() => (theme.value === "auto" ? (systemDark.value ? "dark" : "light") : theme.value));

effect(() => {
  document.documentElement.dataset["theme"] = shade.value;
});
effect(() => {
  document.documentElement.lang = lang.value === "zh" ? "zh-CN" : "en";
});
