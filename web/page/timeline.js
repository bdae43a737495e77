/** Scores over time, a line per person. By mouse: hover reads a point, a click jumps there. By keyboard: arrows and Enter. */

import { el, say, svg } from "./dom.js";
import { byTrack } from "./marks.js";
import { clock, person, score, zone } from "./words.js";

const HEIGHT = 240;
const FIELD = { left: 36, right: 14, top: 12, bottom: 28 }; // px around the plot
const MOST_PEOPLE = 8; // as many as there are colours; the others stand in the table
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600]; // s between two ticks
const TICK_PX = 70; // least between two ticks
// Dashes tell the lines apart without colour; as in the report.
const DASHES = ["", "7 3", "2 3", "9 3 2 3", "12 4", "4 2", "1 2", "6 2 1 2 1 2"];

/**
 * @param {any} report report.json
 * @param {(time: number) => void} onJump
 * @returns {{element: HTMLElement, at: (time: number) => void} | null} null where there is no time to draw over
 */
export function timeline(report, onJump) {
  const tracks = byTrack(report.scores);
  const times = report.scores.map((/** @type {any} */ s) => s.time_s);
  if (new Set(times).size < 2) return null;
  const end = Math.max(report.media?.duration_s ?? 0, ...times);
  const drawn = [...tracks].slice(0, MOST_PEOPLE);
  const points = drawn.flatMap(([, scores]) => scores);
  /** @type {any} */
  let chosen = points[0];
  let playing = 0;
  let width = 0;

  const plot = el("div", {
    class: "plot", tabindex: 0, role: "slider", "aria-label": "Scores over time", "aria-describedby": "timeline-how",
    "aria-valuemin": 0, "aria-valuemax": points.length - 1,
    keydown: onKey, click: () => onJump(chosen.time_s), mousemove: hover,
  });
  const readout = el("output", { class: "readout" });
  const x = (/** @type {number} */ t) => FIELD.left + ((width - FIELD.left - FIELD.right) * t) / end;
  const y = (/** @type {number} */ p) => FIELD.top + (HEIGHT - FIELD.top - FIELD.bottom) * (1 - p);
  const cursor = svg("circle", { r: 7, class: "cursor" });
  const head = svg("line", { y1: FIELD.top, y2: HEIGHT - FIELD.bottom, class: "playhead" });

  function draw() {
    width = plot.clientWidth;
    if (!width) return;
    const lines = drawn.map(([, scores], i) => svg("g", { class: `person-${i}` },
      svg("polyline", { points: scores.map((s) => `${x(s.time_s)},${y(s.p_fake)}`).join(" "), "stroke-dasharray": DASHES[i] || null }),
      ...scores.map((s) => svg("circle", { cx: x(s.time_s), cy: y(s.p_fake), r: 3 }))));
    plot.replaceChildren(svg("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
      ...frame(report, width, end, x, y), head, ...lines, cursor));
    place();
  }

  function place() {
    cursor.setAttribute("cx", x(chosen.time_s));
    cursor.setAttribute("cy", y(chosen.p_fake));
    head.setAttribute("x1", x(playing));
    head.setAttribute("x2", x(playing));
  }

  /** @param {any} point */
  function choose(point) {
    chosen = point;
    const words = told(point, report);
    plot.setAttribute("aria-valuenow", String(points.indexOf(point)));
    plot.setAttribute("aria-valuetext", words);
    say(readout, words);
    if (width) place();
  }

  /** @param {MouseEvent} event */
  function hover(event) {
    const box = plot.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const far = (/** @type {any} */ s) => Math.hypot(x(s.time_s) - px, 0.5 * (y(s.p_fake) - py));
    choose(points.reduce((best, s) => (far(s) < far(best) ? s : best)));
  }

  /** @param {KeyboardEvent} event */
  function onKey(event) {
    const mine = tracks.get(chosen.track) ?? [];
    const at = mine.indexOf(chosen);
    const others = drawn.map(([track]) => track);
    const other = (/** @type {number} */ step) => {
      const scores = tracks.get(others[others.indexOf(chosen.track) + step]) ?? [chosen];
      const far = (/** @type {any} */ s) => Math.abs(s.time_s - chosen.time_s);
      return scores.reduce((best, s) => (far(s) < far(best) ? s : best));
    };
    /** @type {Record<string, () => any>} */
    const keys = {
      ArrowRight: () => choose(mine[at + 1] ?? chosen),
      ArrowLeft: () => choose(mine[at - 1] ?? chosen),
      ArrowDown: () => choose(other(1)),
      ArrowUp: () => choose(other(-1)),
      Home: () => choose(mine[0]),
      End: () => choose(mine[mine.length - 1]),
      Enter: () => onJump(chosen.time_s),
      " ": () => onJump(chosen.time_s),
    };
    if (!(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  }

  choose(points.reduce((best, s) => (s.p_fake > best.p_fake ? s : best)));
  new ResizeObserver(draw).observe(plot);
  const left = tracks.size - drawn.length;
  const element = el("section", { class: "timeline", "aria-labelledby": "timeline-title" },
    el("h2", { id: "timeline-title" }, "Scores over time"),
    el("p", { class: "soft", id: "timeline-how" }, drawn.length > 1
      ? "Arrow keys left and right read the points of a person, up and down change the person. A click or Enter shows the moment in the clip."
      : "Arrow keys read the points. A click or Enter shows the moment in the clip."),
    plot, readout, legend(drawn),
    left ? el("p", { class: "soft" }, `${left} more people, seen for shorter, stand in the table only.`) : null,
    table(report, tracks, onJump));
  return {
    element,
    at(time) {
      playing = time;
      if (width) place();
    },
  };
}

/** @param {any} point @param {any} report */
function told(point, report) {
  const words = { FAKE: "above the threshold", REAL: "below the band", UNCERTAIN: "in the band where nothing is decided" };
  return `${person(point.track)} at ${clock(point.time_s, 1)}: score ${score(point.p_fake)}, ${words[zone(point.p_fake, report.band)]}`;
}

/** Band, threshold, marks and ticks. @param {any} report @param {number} width @param {number} end @param {any} x @param {any} y */
function frame(report, width, end, x, y) {
  const right = width - FIELD.right;
  const bottom = HEIGHT - FIELD.bottom;
  const [low, high] = report.band;
  const most = Math.max(2, Math.floor((right - FIELD.left) / TICK_PX));
  const step = STEPS.find((s) => end / s <= most) ?? end / most;
  const ticks = Array.from({ length: Math.floor(end / step) + 1 }, (_, i) => i * step);
  return [
    svg("rect", { x: FIELD.left, y: y(high), width: right - FIELD.left, height: y(low) - y(high), class: "band" }),
    ...[0, 0.25, 0.5, 0.75, 1].flatMap((p) => [
      svg("line", { x1: FIELD.left, x2: right, y1: y(p), y2: y(p), class: "grid" }),
      svg("text", { x: FIELD.left - 6, y: y(p) + 4, "text-anchor": "end" }, String(p)),
    ]),
    svg("line", { x1: FIELD.left, x2: right, y1: y(report.threshold), y2: y(report.threshold), class: "threshold" }),
    ...ticks.flatMap((t) => [
      svg("line", { x1: x(t), x2: x(t), y1: bottom, y2: bottom + 5, class: "tick" }),
      svg("text", { x: x(t), y: bottom + 19, "text-anchor": "middle" }, step < 1 ? `${t.toFixed(1)} s` : clock(t)),
    ]),
  ];
}

/** @param {[number, any[]][]} drawn */
function legend(drawn) {
  const sample = (/** @type {any[]} */ ...parts) => svg("svg", { width: 34, height: 12, "aria-hidden": "true" }, ...parts);
  const line = { x1: 0, x2: 34, y1: 6, y2: 6 };
  return el("ul", { class: "legend" },
    ...drawn.map(([track], i) => el("li", {},
      sample(svg("g", { class: `person-${i}` }, svg("line", { ...line, "stroke-dasharray": DASHES[i] || null }))), person(track))),
    el("li", {}, sample(svg("rect", { width: 34, height: 12, class: "band" }), svg("line", { ...line, class: "threshold" })),
      "threshold, and the band in which nothing is decided"));
}

/** The same as a table; filled when it is opened. @param {any} report @param {Map<number, any[]>} tracks @param {(time: number) => void} onJump */
function table(report, tracks, onJump) {
  const body = el("tbody");
  const fill = () => {
    if (body.childElementCount) return;
    const rows = [...tracks.values()].flat().map((s) => el("tr", {},
      el("th", { scope: "row" }, person(s.track)),
      el("td", {}, el("button", { type: "button", class: "link", click: () => onJump(s.time_s), "aria-label": `Show ${clock(s.time_s, 1)}` }, clock(s.time_s, 1))),
      el("td", { class: "n" }, score(s.p_fake)), el("td", {}, zone(s.p_fake, report.band))));
    body.append(...rows);
  };
  return el("details", { toggle: fill }, el("summary", {}, "All scores as a table"),
    el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "Table of scores" }, el("table", {},
      el("thead", {}, el("tr", {}, ...["person", "time", "score", "zone"].map((name) => el("th", { scope: "col" }, name)))), body)));
}
