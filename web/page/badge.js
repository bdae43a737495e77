/** A verdict or state as a small sign with a word. */

import { el } from "./dom.js";
import { icon } from "./icons.js";
import { VERDICTS } from "./words.js";

/**
 * @param {string} verdict
 * @param {string} [size] "", or "big"
 */
export function badge(verdict, size = "") {
  const told = VERDICTS[verdict];
  return el("span", { class: `badge ${verdict.toLowerCase()} ${size}` }, icon(/** @type {any} */ (told.icon)), told.word);
}

/**
 * What stands at a job in a list: its verdict, or its state.
 * @param {any} job
 */
export function jobBadge(job) {
  if (job.state === "done") return badge(job.verdict);
  if (job.state === "failed") return el("span", { class: "badge error" }, icon("broken"), "FAILED");
  return el("span", { class: "badge waiting" }, icon("clock"), job.state === "queued" ? "WAITING" : "RUNNING");
}
