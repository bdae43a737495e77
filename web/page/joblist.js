/** Jobs as a list of links. */

import { jobBadge } from "./badge.js";
import { el } from "./dom.js";
import { date, plain, score, sentence, size, stateWords } from "./words.js";

/** @param {any[]} jobs */
export function jobList(jobs) {
  return el("ul", { class: "jobs" }, ...jobs.map(row));
}

/** @param {any} job */
function row(job) {
  const told = job.state === "done" ? job.reason : job.state === "failed" ? job.error : stateWords(job);
  return el("li", {}, jobBadge(job),
    el("div", { class: "about" },
      el("a", { href: `#/job/${job.id}` }, el("bdi", {}, plain(job.name))),
      el("p", { class: "soft" }, sentence(told ?? ""))),
    el("div", { class: "facts soft" },
      el("span", {}, date(job.created)), el("span", {}, size(job.bytes)),
      job.p_fake === null ? null : el("span", {}, `score ${score(job.p_fake)}`)));
}
