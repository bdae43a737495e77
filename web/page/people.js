/** Tables of people and of the parts of a clip above the threshold. */

import { badge } from "./badge.js";
import { el } from "./dom.js";
import { clock, person, score } from "./words.js";

/** @param {any} report report.json @param {((time: number) => void) | null} onJump null in a still */
export function people(report, onJump) {
  if (!report.people.length) return null;
  const rows = report.people.map((/** @type {any} */ one) => el("tr", {},
    el("th", { scope: "row" }, person(one.track)), el("td", {}, badge(one.verdict)), el("td", { class: "n" }, score(one.p_fake)),
    el("td", { class: "n" }, one.frames), el("td", {}, onJump ? span(one, onJump) : "in the picture",
      onJump && one.frames < report.rule.min_frames ? ", too briefly to judge" : null)));
  return el("section", { "aria-labelledby": "people-title" },
    el("h2", { id: "people-title" }, "People"),
    wide("Table of people", ["person", "answer", "score", "frames", "seen"], rows,
      "A person is a face followed through the frames. Frames: those in which the face was found."),
    onJump ? parts(report, onJump) : null);
}

/** @param {any} report @param {(time: number) => void} onJump */
function parts(report, onJump) {
  if (!report.segments.length) return null;
  const rows = report.segments.map((/** @type {any} */ part) => el("tr", {},
    el("th", { scope: "row" }, person(part.track)), el("td", {}, span(part, onJump)), el("td", { class: "n" }, score(part.p_fake))));
  return wide("Parts above the threshold", ["person", "part", "mean score"], rows,
    `Parts above the threshold: where a person's score, averaged over three frames, reaches ${score(report.threshold)}.`);
}

/** @param {{start_s: number, end_s: number}} part @param {(time: number) => void} onJump */
function span(part, onJump) {
  const words = `${clock(part.start_s, 1)} to ${clock(part.end_s, 1)}`;
  return el("button", { type: "button", class: "link", click: () => onJump(part.start_s), "aria-label": `Show the part from ${words}` }, words);
}

/** @param {string} name @param {string[]} heads @param {HTMLElement[]} rows @param {string} caption */
function wide(name, heads, rows, caption) {
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": name }, el("table", {}, el("caption", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))), el("tbody", {}, ...rows)));
}
