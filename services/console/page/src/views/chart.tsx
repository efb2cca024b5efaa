// A chart of the library in the colours of the theme, as wide as its place.

import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { lang, shade } from "../app_state";

export interface Series {
  label: string;
  /** Name of a colour of the style sheet, without the dashes. */
  colour: string;
  kind: "line" | "bars" | "area";
  /** Its own scale on the right side. */
  right?: boolean;
  /** Texts of its values in the legend. */
  text: (value: number | null) => string;
}

export interface ChartProps {
  label: string;
  height: number;
  /** x ascending, then the values of each series. */
  data: uPlot.AlignedData;
  series: Series[];
  /** What x is, for the legend. */
  xLabel?: string;
  /** Texts of x in axis and legend. */
  x: (value: number) => string;
  /** Whether x is time in seconds. */
  time: boolean;
  left: (value: number) => string;
  right?: (value: number) => string;
  /** Colours of this theme whatever the page's. */
  dark?: boolean;
  legend?: boolean;
}

function colour(element: Element, name: string): string {
  return getComputedStyle(element).getPropertyValue(`--${name}`).trim();
}

function options(element: HTMLElement, props: ChartProps, width: number): uPlot.Options {
  const ink = colour(element, "muted");
  const line = colour(element, "line");
  const font = "12px system-ui, sans-serif";
  const bars = uPlot.paths.bars!({ size: [0.7, 60], radius: 0.12 });
  const axis = (text: (value: number) => string, side: number, scale: string): uPlot.Axis => ({
    scale,
    side,
    stroke: ink,
    font,
    size: side === 3 || side === 1 ? 58 : 30,
    grid: { show: side === 3, stroke: line, width: 1 },
    ticks: { show: false },
    values: (_, splits) => splits.map((value) => (value === null ? "" : text(value))),
  });
  const axes = [axis(props.x, 2, "x"), axis(props.left, 3, "y")];
  if (props.right) axes.push(axis(props.right, 1, "r"));
  const whole = { range: (_: uPlot, __: number | null, max: number | null): uPlot.Range.MinMax => [0, Math.max(1, (max ?? 0) * 1.08)] };
  // Half a bar of room on both sides, and a day that has just begun is not one bar over the whole width.
  const hours = { time: false, range: (_: uPlot, min: number | null, max: number | null): uPlot.Range.MinMax => [(min ?? 0) - 0.6, Math.max(max ?? 0, (min ?? 0) + 5) + 0.6] };
  return {
    width,
    height: props.height,
    padding: [10, props.right ? 0 : 14, 0, 0],
    legend: { show: props.legend ?? true, live: true },
    cursor: { drag: { x: false, y: false }, points: { size: 6 } },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1_000), "Etc/UTC"),
    scales: { x: props.time ? { time: true } : hours, y: whole, r: { range: (_, __, max) => [0, Math.max(0.1, (max ?? 0) * 1.15)] } },
    axes,
    series: [
      { label: props.xLabel ?? "", value: (_, value: number | null) => (value === null ? "" : props.x(value)) },
      ...props.series.map((series): uPlot.Series => {
        const paint = colour(element, series.colour);
        const base: uPlot.Series = {
          label: series.label,
          scale: series.right ? "r" : "y",
          stroke: paint,
          width: series.kind === "bars" ? 0 : 2,
          value: (_, value: number | null) => series.text(value),
          points: { show: series.kind === "line" && !props.time, size: 6, fill: paint },
        };
        if (series.kind === "bars") return { ...base, fill: paint, paths: bars };
        if (series.kind === "area") return { ...base, fill: `${paint}33` };
        return base;
      }),
    ],
  };
}

export function Chart(props: ChartProps) {
  const element = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useRef(props.data);
  data.current = props.data;
  const look = `${props.dark ? "dark" : shade.value} ${lang.value} ${props.height} ${props.series.map((s) => s.label).join()}`;
  useEffect(() => {
    const place = element.current;
    if (!place) return;
    const made = new uPlot(options(place, props, place.clientWidth || 300), data.current, place);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: place.clientWidth || 300, height: props.height }));
    observer.observe(place);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [look]);
  useEffect(() => plot.current?.setData(props.data), [props.data]);
  return <div class="chart" ref={element} role="img" aria-label={props.label} />;
}
