/** The faces that say most, as the network saw them, cut out of the report; each jumps to its moment. */

import { badge } from "./badge.js";
import { el } from "./dom.js";
import { clock, person, score, sentence } from "./words.js";

const PICTURE = "data:image/jpeg;base64,";
// The report is only read, never shown here; the browser would report that our policy forbids its own style.
const STYLES = /<style>[\s\S]*?<\/style>/g;

/**
 * @param {string} page report.html, in which each face is a <figure data-track data-frame> with a JPEG inside
 * @param {any} report report.json
 * @param {((time: number) => void) | null} onJump null in a still
 * @returns {HTMLElement | null} null where the report shows no faces
 */
export function faces(page, report, onJump) {
  const figures = [...new DOMParser().parseFromString(page.replace(STYLES, ""), "text/html").querySelectorAll("figure[data-track]")];
  const shown = figures.map((figure) => faceOf(/** @type {HTMLElement} */ (figure), report)).filter((face) => face !== null);
  if (!shown.length) return null;
  const people = report.people.filter((/** @type {any} */ one) => shown.some((face) => face.score.track === one.track));
  return el("section", { "aria-labelledby": "faces-title" },
    el("h2", { id: "faces-title" }, "Faces to look at"),
    el("p", { class: "soft" }, "As the network saw them. First those that say most for the answer on this person; one with a dashed rim says most against it."
      + (onJump ? " Choose one to see its moment in the clip." : "")),
    ...people.flatMap((/** @type {any} */ one) => [
      el("h3", {}, `${sentence(person(one.track), "")} `, badge(one.verdict)),
      el("ul", { class: "faces" }, ...shown.filter((face) => face.score.track === one.track).map((face) => el("li", {}, card(face, onJump)))),
    ]));
}

/** @param {HTMLElement} figure @param {any} report */
function faceOf(figure, report) {
  const { track, frame } = figure.dataset;
  const found = report.scores.find((/** @type {any} */ s) => s.track === Number(track) && s.frame === Number(frame));
  const picture = figure.querySelector("img")?.getAttribute("src") ?? "";
  return found && picture.startsWith(PICTURE) ? { score: found, picture, against: figure.classList.contains("against") } : null;
}

/** @param {any} face @param {((time: number) => void) | null} onJump */
function card(face, onJump) {
  const when = onJump ? ` at ${clock(face.score.time_s, 1)}` : "";
  const words = [
    el("img", { src: face.picture, alt: "", class: face.against ? "against" : null }),
    el("span", {}, el("strong", {}, score(face.score.p_fake)), when), face.against ? el("span", { class: "soft" }, "speaks against") : null,
  ];
  if (!onJump) return el("div", { class: "face" }, ...words);
  return el("button", { type: "button", class: "face", click: () => onJump(face.score.time_s) }, ...words,
    el("span", { class: "visually-hidden" }, `: show this moment of ${person(face.score.track)}`));
}
