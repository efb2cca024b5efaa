// Numbers, money, times and durations as texts, in both languages.

export type Lang = "zh" | "en";

const number = { zh: new Intl.NumberFormat("zh-CN"), en: new Intl.NumberFormat("en-US") };
const fixed = (digits: number) => ({
  zh: new Intl.NumberFormat("zh-CN", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
  en: new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }),
});
const one = fixed(1);
const two = fixed(2);

/** What stands where a figure is not defined. */
export const NONE = "–";

export function count(value: number | null, lang: Lang): string {
  return value === null ? NONE : number[lang].format(value);
}

/** A ratio as per cent, one decimal. */
export function percent(value: number | null, lang: Lang): string {
  return value === null ? NONE : `${one[lang].format(value * 100)}%`;
}

/** Fen as yuan, two decimals: `¥1,234.50`. */
export function money(fen: number | null, lang: Lang): string {
  if (fen === null) return NONE;
  return `${fen < 0 ? "-" : ""}¥${two[lang].format(Math.abs(fen) / 100)}`;
}

/** Fen as yuan, short where it is large: 万 and 亿 in Chinese, K and M in English. */
export function moneyShort(fen: number | null, lang: Lang): string {
  if (fen === null) return NONE;
  const units: [number, string][] = lang === "zh" ? [[1e8, "亿"], [1e4, "万"]] : [[1e6, "M"], [1e4, "K"]];
  const yuan = Math.abs(fen) / 100;
  const unit = units.find(([from]) => yuan >= from);
  if (!unit) return money(fen, lang);
  const divisor = unit[1] === "K" ? 1e3 : unit[0];
  return `${fen < 0 ? "-" : ""}¥${two[lang].format(yuan / divisor)}${unit[1]}`;
}

/** A latency: `8.4秒`, `1分05秒`; `8.4 s`, `1m 05s`. */
export function latency(ms: number | null, lang: Lang): string {
  if (ms === null) return NONE;
  if (ms < 60_000) return lang === "zh" ? `${one.zh.format(ms / 1000)}秒` : `${one.en.format(ms / 1000)} s`;
  if (lang === "zh" || ms >= 3_600_000) return duration(ms, lang);
  return `${Math.floor(ms / 60_000)}m ${String(Math.floor(ms / 1000) % 60).padStart(2, "0")}s`;
}

/** A duration in words, two units at most: `2小时05分`, `1 min 05 s`. */
export function duration(ms: number, lang: Lang): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [d, h, m, s] = [Math.floor(seconds / 86_400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  const pad = (n: number) => String(n).padStart(2, "0");
  const zh = lang === "zh";
  if (d > 0) return zh ? `${d}天${h}小时` : `${d} d ${h} h`;
  if (h > 0) return zh ? `${h}小时${pad(m)}分` : `${h} h ${pad(m)} min`;
  if (m > 0) return zh ? `${m}分${pad(s)}秒` : `${m} min ${pad(s)} s`;
  return zh ? `${s}秒` : `${s} s`;
}

/** A running clock: `0:07`, `12:34`, `1:02:03`. */
export function clock(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const pad = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

function shifted(ms: number, offsetMinutes: number): Date {
  return new Date(ms + offsetMinutes * 60_000);
}

/** Time of day in the shop's zone: `22:05:09`. */
export function timeOfDay(ms: number, offsetMinutes: number): string {
  return shifted(ms, offsetMinutes).toISOString().slice(11, 19);
}

/** Hour and minute in the shop's zone: `22:05`. */
export function hourMinute(ms: number, offsetMinutes: number): string {
  return shifted(ms, offsetMinutes).toISOString().slice(11, 16);
}

/** Day and time in the shop's zone: `11-10 22:05:09`. */
export function dayTime(ms: number, offsetMinutes: number): string {
  return shifted(ms, offsetMinutes).toISOString().slice(5, 19).replace("T", " ");
}

/** By how much a figure differs: `+12.3%`; null where there is nothing to compare with. */
export function change(now: number | null, before: number | null, lang: Lang): string | null {
  if (now === null || before === null || before === 0) return null;
  const change = now / before - 1;
  return `${change < 0 ? "−" : "+"}${one[lang].format(Math.abs(change) * 100)}%`;
}

/** Difference of two ratios in percentage points: `−1.2`. */
export function points(now: number | null, before: number | null, lang: Lang): string | null {
  if (now === null || before === null) return null;
  const difference = (now - before) * 100;
  return `${difference < 0 ? "−" : "+"}${one[lang].format(Math.abs(difference))}`;
}

/** The first digits of a buyer key, enough to tell buyers apart on a screen. */
export function buyer(key: string): string {
  return key.slice(0, 8);
}
