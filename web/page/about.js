/** Which model judges, how often it was wrong, and what it cannot tell. */

import { model } from "./api.js";
import { el } from "./dom.js";
import { errorWords, plain, score, sentence } from "./words.js";

/** @param {HTMLElement} root */
export async function about(root) {
  root.append(el("h1", { tabindex: "-1" }, "The model"));
  try {
    const card = await model();
    root.append(
      el("h2", {}, "How often it was wrong"), measured(card),
      el("h2", {}, "What it does not tell you"), notTold(card),
      el("h2", {}, "Where its answers begin"),
      el("p", {}, `FAKE from a score of ${score(card.band[1])} on, REAL below ${score(card.band[0])}, UNCERTAIN in between. `
        + (card.calibrated ? "The scores are calibrated." : "The scores are not calibrated: they are no probabilities.")),
      el("h2", {}, "Which one it is"),
      factTable([["name", card.name], ["network", card.architecture], ["SHA-256 of its file", card.sha256]]),
      el("h2", {}, "For programs"),
      el("p", {}, "The same is to be had as a REST API; it is described in ", el("a", { href: "/openapi.json" }, "openapi.json"), "."));
  } catch (error) {
    root.append(el("p", { class: "warn" }, errorWords(error)));
  }
}

/**
 * Sentences on the error of the model; the server begins those that hold for one kind of file with its name.
 * @param {any} card
 * @param {string} [other] the kind that is left out, as "Stills: "
 */
export function measured(card, other) {
  const told = card.measured.filter((/** @type {string} */ one) => other === undefined || !one.startsWith(other));
  return el("ul", {}, ...told.map((/** @type {string} */ one) => el("li", {}, sentence(one))));
}

/** @param {any} card */
export const notTold = (card) => el("ul", {}, ...card.limits.map((/** @type {string} */ told) => el("li", {}, sentence(told))));

/** @param {[string, string][]} facts */
export function factTable(facts) {
  const rows = facts.map(([what, value]) => el("tr", {}, el("th", { scope: "row" }, what), el("td", {}, plain(value))));
  return el("table", { class: "fact-table" }, el("tbody", {}, ...rows));
}
