/** What can be saved of a job, and its deletion. */

import { remove, save } from "./api.js";
import { byId, el } from "./dom.js";
import { hasKey } from "./key.js";
import { errorWords, plain } from "./words.js";

/** @param {any} job @param {boolean} withReport whether there is a report */
export function actions(job, withReport) {
  const trouble = el("p", { class: "warn", role: "alert", hidden: true });
  const stem = job.name.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}_-]+/gu, "_").slice(0, 60) || "clip";
  const act = (/** @type {() => Promise<any>} */ doing) => async () => {
    trouble.hidden = true;
    try {
      await doing();
    } catch (error) {
      trouble.textContent = errorWords(error);
      trouble.hidden = false;
    }
  };
  const saving = (/** @type {string} */ name, /** @type {string} */ path, /** @type {string} */ as) =>
    el("button", { type: "button", click: act(() => save(path, as)) }, name);
  return el("div", {}, el("div", { class: "actions" },
    // A browser sends no key with a link; with one, the report can only be saved.
    withReport && !hasKey() ? el("a", { class: "button", href: job.links.report, target: "_blank", rel: "noopener" }, "Open the report") : null,
    withReport ? saving("Save the report", job.links.report, `${stem}-report`) : null,
    withReport ? saving("Save the figures (JSON)", job.links.report_json, `${stem}-report`) : null,
    job.links.overlay ? saving("Save the copy with boxes", job.links.overlay, `${stem}-boxes`) : null,
    el("button", { type: "button", class: "danger quiet", click: act(() => deleteJob(job)) }, "Delete …")), trouble);
}

/** Asks, deletes and goes to the list. @param {any} job */
async function deleteJob(job) {
  const dialog = byId("confirm-dialog");
  byId("confirm-text").textContent = `“${plain(job.name)}”, its verdict and its report are removed from the server. This cannot be undone.`;
  byId("confirm-yes").onclick = () => dialog.close("yes");
  byId("confirm-no").onclick = () => dialog.close("no");
  dialog.returnValue = "no";
  dialog.showModal();
  byId("confirm-no").focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  await remove(job.links.self);
  location.hash = "#/jobs";
}
