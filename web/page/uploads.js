/** The uploads of this visit: a list with a bar, state and result for each. It lives on while other pages are shown. */

import { limits } from "./api.js";
import { jobBadge } from "./badge.js";
import { el, say } from "./dom.js";
import { follow } from "./poll.js";
import { upload } from "./upload.js";
import { errorWords, plain, sentence, size, stateWords } from "./words.js";

const list = el("ul", { class: "uploads" });
/** Shown by the home page; hidden as long as it is empty. */
export const uploads = el("section", { "aria-labelledby": "uploads-title", hidden: true },
  el("h2", { id: "uploads-title" }, "Your uploads"), list);

/** One file at a time: side by side each would be slower, and the queue is served in this order. */
let turn = Promise.resolve();

/**
 * Sends files, one after the other.
 * @param {Iterable<File>} files
 * @param {boolean} overlay whether copies with boxes are wanted
 */
export function addFiles(files, overlay) {
  const chosen = [...files];
  for (const file of chosen) addFile(file, overlay, chosen.length === 1);
  uploads.hidden = list.childElementCount === 0;
}

/** @param {File} file @param {boolean} overlay @param {boolean} alone */
function addFile(file, overlay, alone) {
  const row = rowOf(file);
  list.prepend(row.element);
  const start = () => {
    const aborter = new AbortController();
    row.sending(() => aborter.abort());
    turn = turn.then(() => deliver(file, overlay, row, aborter.signal, alone, start));
  };
  start();
}

/** @param {File} file @param {boolean} overlay @param {any} row @param {AbortSignal} signal @param {boolean} alone @param {() => void} again */
async function deliver(file, overlay, row, signal, alone, again) {
  try {
    signal.throwIfAborted();
    const most = (await limits()).max_bytes;
    if (file.size > most) throw new TooBig(`It has ${size(file.size)}; this server takes at most ${size(most)} per file.`);
    const job = await upload(file, overlay, row, signal);
    row.accepted(job);
    follow(job.id, row.accepted, row.trouble);
    if (alone && ["", "#", "#/"].includes(location.hash)) location.hash = `#/job/${job.id}`;
  } catch (/** @type {any} */ error) {
    if (error.name === "AbortError") row.cancelled(again);
    else if (error instanceof TooBig) row.refused(`${error.message} Cut out the part that matters.`, null);
    else row.refused(errorWords(error), again);
  }
}

class TooBig extends Error {}

/** What is shown of one file. @param {File} file */
function rowOf(file) {
  const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${plain(file.name)}` });
  const state = el("p", { class: "state", role: "status" }, "Waits for its turn.");
  const percent = el("span", { class: "soft percent", "aria-hidden": "true" });
  const actions = el("div", { class: "actions" });
  const element = el("li", { class: "card upload" },
    el("div", { class: "name" }, el("bdi", {}, plain(file.name)), " ", el("span", { class: "soft" }, size(file.size))),
    bar, el("div", { class: "line" }, state, percent), actions);
  /** @param {string} name @param {() => void} act */
  const button = (name, act) => el("button", { type: "button", click: act, "aria-label": `${name}: ${plain(file.name)}` }, name);
  /** @param {string} words @param {any} job */
  const link = (words, job) => el("a", { href: `#/job/${job.id}`, "aria-label": `${words}: ${plain(job.name)}` }, words);
  const dismiss = () => button("Remove from the list", () => {
    element.remove();
    uploads.hidden = list.childElementCount === 0;
  });
  return {
    element,
    /** @param {() => void} cancel */
    sending(cancel) {
      bar.hidden = false;
      bar.value = 0;
      say(state, "Waits for its turn.");
      state.classList.remove("bad");
      actions.replaceChildren(button("Cancel", cancel));
    },
    /** @param {number} share */
    onProgress(share) {
      bar.value = share;
      say(state, share < 1 ? "Uploading." : "Uploaded, being received.");
      percent.textContent = `${Math.floor(100 * share)} %`;
    },
    /** @param {number} seconds */
    onWait(seconds) {
      say(state, "The queue of the server is full; this is tried again by itself.");
      percent.textContent = `in ${seconds} s`;
    },
    /** @param {any} job */
    accepted(job) {
      bar.hidden = true;
      percent.textContent = "";
      say(state, sentence(job.error || job.reason || stateWords(job)));
      actions.replaceChildren(jobBadge(job),
        link(job.verdict ? "See what was found" : "Follow it", job));
    },
    /** @param {any} error @param {number} seconds */
    trouble(error, seconds) {
      say(state, errorWords(error) + (seconds ? " This page keeps trying." : ""));
    },
    /** @param {() => void} again */
    cancelled(again) {
      bar.hidden = true;
      percent.textContent = "";
      say(state, "Cancelled.");
      actions.replaceChildren(button("Send it again", again), dismiss());
    },
    /** @param {string} why @param {(() => void) | null} again */
    refused(why, again) {
      bar.hidden = true;
      percent.textContent = "";
      state.classList.add("bad");
      say(state, why);
      actions.replaceChildren(...(again ? [button("Try again", again)] : []), dismiss());
    },
  };
}
