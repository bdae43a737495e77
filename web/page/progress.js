/** How far a job is: its steps, a bar and a sentence that a screen reader reads when the step changes. */

import { el, say } from "./dom.js";
import { STEPS, errorWords, sentence, stateWords } from "./words.js";

/** @returns {{element: HTMLElement, show: (job: any) => void, trouble: (error: any, seconds: number) => void}} */
export function progressCard() {
  const told = el("p", { role: "status", class: "now" });
  const bar = el("progress", { max: 1, "aria-label": "Progress of this step" });
  const steps = STEPS.map(([name, words]) => el("li", { "data-step": name }, words));
  const element = el("section", { class: "card progress", "aria-label": "Progress" },
    told, bar, el("ol", { class: "steps" }, ...steps),
    el("p", { class: "soft" }, "You can leave this page: the check goes on, and its address stays the same."));
  return {
    element,
    show(job) {
      const at = job.state === "queued" ? 0 : Math.max(1, STEPS.findIndex(([name]) => name === job.stage));
      say(told, sentence(stateWords(job), " …"));
      if (!job.progress || job.state === "queued") bar.removeAttribute("value");
      else bar.value = job.progress;
      steps.forEach((step, i) => {
        step.className = i < at ? "past" : i === at ? "present" : "";
        if (i === at) step.setAttribute("aria-current", "step");
        else step.removeAttribute("aria-current");
      });
    },
    trouble(error, seconds) {
      say(told, errorWords(error) + (seconds ? " This page keeps trying." : ""));
    },
  };
}
