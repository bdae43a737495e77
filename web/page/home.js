/** The first page: choose or drop files, and what became of the latest. */

import { getJson, limits } from "./api.js";
import { el } from "./dom.js";
import { icon } from "./icons.js";
import { jobList } from "./joblist.js";
import { addFiles, uploads } from "./uploads.js";
import { errorWords, size } from "./words.js";

const LATEST = 5; // jobs shown below

/** @param {HTMLElement} root */
export function home(root) {
  const overlay = el("input", { type: "checkbox", id: "overlay" });
  const drop = dropZone((files) => addFiles(files, overlay.checked));
  const latest = el("section", { "aria-labelledby": "latest-title", hidden: true });
  root.append(
    el("h1", { tabindex: "-1" }, "Is a face in this clip or picture manipulated?"),
    el("p", { class: "lead" }, "Drop a file. You get an answer, how sure it is, what it rests on, and a report to keep."),
    drop.element,
    el("p", { class: "check" }, overlay,
      el("label", { for: "overlay" }, "also make a copy with boxes and scores drawn in, to pass on (takes longer)")),
    uploads,
    latest,
  );
  showLimits(drop.stated);
  showLatest(latest);
  return drop.stop;
}

/** @param {(files: Iterable<File>) => void} onFiles */
function dropZone(onFiles) {
  const stated = el("span", { class: "soft", id: "limits" }, "reading what this server takes …");
  const input = el("input", {
    type: "file", id: "files", multiple: true, accept: "image/*,video/*,.mkv,.avi,.mov", class: "hidden-input",
    "aria-describedby": "limits",
    change: () => {
      onFiles(input.files);
      input.value = ""; // so that the same file can be chosen once more
    },
  });
  const element = el("div", { class: "drop" }, input,
    el("label", { for: "files" }, icon("upload"), el("strong", {}, "Choose pictures or clips"),
      el("span", {}, "or drop them anywhere on this page")),
    stated);
  // On the whole page: a file dropped a little beside the zone would else replace the page.
  const over = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    element.classList.add("over");
  };
  const out = (/** @type {DragEvent} */ event) => event.relatedTarget === null && element.classList.remove("over");
  const dropped = (/** @type {DragEvent} */ event) => {
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    element.classList.remove("over");
    onFiles(event.dataTransfer.files);
  };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", out);
  document.addEventListener("drop", dropped);
  const stop = () => {
    document.removeEventListener("dragover", over);
    document.removeEventListener("dragleave", out);
    document.removeEventListener("drop", dropped);
  };
  return { element, stated, stop };
}

/** @param {HTMLElement} stated */
async function showLimits(stated) {
  try {
    const { types, max_bytes: most, keep_days: days } = await limits();
    stated.textContent = `${types.join(", ")}; at most ${size(most)} each; deleted after ${days} ${days === 1 ? "day" : "days"}`;
  } catch (error) {
    stated.textContent = errorWords(error);
  }
}

/** @param {HTMLElement} latest */
async function showLatest(latest) {
  try {
    const { jobs, total } = await getJson(`/v1/jobs?limit=${LATEST}`);
    if (!jobs.length) return;
    latest.append(el("h2", { id: "latest-title" }, "Latest checks"), jobList(jobs));
    if (total > jobs.length) latest.append(el("p", {}, el("a", { href: "#/jobs" }, `All ${total} past checks`)));
    latest.hidden = false;
  } catch {
    // The limits above have told why.
  }
}
