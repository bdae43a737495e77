/** The answer: the word, what it means, why, how sure, what limits it, and where the score lies. */

import { badge } from "./badge.js";
import { el, svg } from "./dom.js";
import { VERDICTS, plain, score, sentence } from "./words.js";

/** @param {any} report report.json */
export function verdictCard(report) {
  const told = VERDICTS[report.verdict];
  return el("section", { class: `card answer ${report.verdict.toLowerCase()}`, "aria-labelledby": "answer-title" },
    el("h2", { id: "answer-title", class: "visually-hidden" }, "The answer"),
    el("div", { class: "headline" }, badge(report.verdict, "big"), el("p", { class: "means" }, told.means)),
    el("p", { class: "reason" }, el("strong", {}, "Why: "), sentence(report.reason)),
    report.how_sure ? el("p", {}, el("strong", {}, "How sure: "), sentence(report.how_sure)) : null,
    report.p_fake === null ? el("p", { class: "soft" }, "There is no score: a missing face or a failure is never turned into a number.")
      : scale(report),
    report.cautions.length ? el("div", { class: "warn" }, el("strong", {}, "What limits this verdict: "),
      sentence(report.cautions.join("; "))) : null,
    el("ul", { class: "todo" }, ...told.todo.map((what) => el("li", {}, what))));
}

/**
 * The score on a line from 0 to 1 with the three zones.
 * @param {any} report
 */
function scale(report) {
  const [low, high] = report.band;
  /** @param {number} from @param {number} to @param {string} name */
  const part = (from, to, name) => svg("rect", { x: 1000 * from, width: Math.max(0, 1000 * (to - from)), y: 0, height: 20, class: name });
  const x = 1000 * report.p_fake;
  const pointer = el("span", { class: "pointer" }, score(report.p_fake));
  pointer.style.left = `${100 * report.p_fake}%`;
  const many = report.people.length > 1 ? ` It is the highest score among the people seen in at least ${report.rule.min_frames} frames.` : "";
  /** @param {number} from @param {number} to @param {string} word */
  const label = (from, to, word) => {
    const text = el("span", {}, to - from > 0.12 ? word : "");
    text.style.left = `${50 * (from + to)}%`;
    return text;
  };
  return el("figure", { class: "scale" },
    el("div", { class: "track", "aria-hidden": "true" }, pointer,
      svg("svg", { viewBox: "0 0 1000 20", preserveAspectRatio: "none" },
        part(0, low, "zone real"), part(low, high, "zone uncertain"), part(high, 1, "zone fake"),
        svg("line", { x1: x, x2: x, y1: 0, y2: 20, class: "needle", "vector-effect": "non-scaling-stroke" })),
      el("div", { class: "zones" }, label(0, low, "REAL"), label(low, high, "UNCERTAIN"), label(high, 1, "FAKE"))),
    el("figcaption", { class: "soft" }, `Score ${score(report.p_fake)} of 1. From ${score(high)} on the answer is FAKE, below `
      + `${score(low)} REAL, in between UNCERTAIN.${many}`));
}

/**
 * A job that the service could not finish.
 * @param {any} job
 */
export function failedCard(job) {
  return el("section", { class: "card answer error", "aria-labelledby": "answer-title" },
    el("h2", { id: "answer-title" }, "The check could not be finished"),
    el("p", { class: "reason" }, el("strong", {}, "Why: "), sentence(plain(job.error ?? "the server gave no reason"))),
    el("p", {}, "This says nothing about whether the file is fake. Send it once more; if it fails again, tell whoever runs this server."),
    el("p", {}, el("a", { href: "#/" }, "Send a file")));
}
