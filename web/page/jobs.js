/** Past checks: a list with filter, search and pages. What is chosen stands in the address, so that it can be linked. */

import { getJson } from "./api.js";
import { el, say } from "./dom.js";
import { jobList } from "./joblist.js";
import { ended } from "./poll.js";
import { counted, errorWords } from "./words.js";

const PAGE = 20; // jobs
const AGAIN_MS = 3_000; // while a check in the list has not ended
const TYPING_MS = 250; // without another letter, before it is searched

const CHOICES = /** @type {[string, string][]} */ ([
  ["", "all"],
  ["verdict=FAKE", "FAKE"],
  ["verdict=REAL", "REAL"],
  ["verdict=UNCERTAIN", "UNCERTAIN"],
  ["verdict=NO_FACE", "no face found"],
  ["verdict=ERROR", "not readable"],
  ["state=queued", "waiting"],
  ["state=running", "running"],
  ["state=failed", "failed"],
]);

/** @param {HTMLElement} root */
export function jobs(root) {
  const asked = new URLSearchParams(location.hash.split("?")[1] ?? "");
  let page = Math.max(1, Number(asked.get("page")) || 1);
  const now = CHOICES.find(([key]) => key && asked.get(key.split("=")[0]) === key.split("=")[1]);
  const search = el("input", { type: "search", id: "search", value: asked.get("q") ?? "", autocomplete: "off" });
  const filter = el("select", { id: "filter" },
    ...CHOICES.map(([value, name]) => el("option", { value, selected: value === (now?.[0] ?? "") }, name)));
  const count = el("p", { class: "soft", role: "status" });
  const found = el("div");
  const pages = el("nav", { class: "actions", "aria-label": "Pages of the list" });
  root.append(
    el("h1", { tabindex: "-1" }, "Past checks"),
    el("form", { class: "filters", role: "search", submit: (/** @type {Event} */ event) => event.preventDefault() },
      el("div", {}, el("label", { for: "search" }, "Name contains"), search),
      el("div", {}, el("label", { for: "filter" }, "Answer or state"), filter)),
    count, found, pages);

  const query = () => {
    const chosen = new URLSearchParams(filter.value);
    if (search.value.trim()) chosen.set("q", search.value.trim());
    return chosen;
  };
  let newest = 0;
  /** @type {number | undefined} */
  let timer;
  async function show() {
    const mine = ++newest;
    clearTimeout(timer);
    const chosen = query();
    const shown = new URLSearchParams(chosen);
    if (page > 1) shown.set("page", String(page));
    history.replaceState(null, "", `#/jobs${shown.size ? `?${shown}` : ""}`);
    try {
      const answer = await getJson(`/v1/jobs?${chosen}${chosen.size ? "&" : ""}limit=${PAGE}&offset=${(page - 1) * PAGE}`);
      if (mine === newest) fill(answer, chosen.size > 0);
    } catch (error) {
      if (mine === newest) say(count, errorWords(error));
    }
  }
  /** @param {{jobs: any[], total: number}} answer @param {boolean} filtered */
  function fill({ jobs: some, total }, filtered) {
    const first = (page - 1) * PAGE;
    const part = total > some.length && some.length ? `, ${first + 1} to ${first + some.length} shown` : "";
    say(count, total ? counted(total, "check") + part : filtered ? "No check is like this." : "Nothing was checked yet.");
    found.replaceChildren(jobList(some));
    if (!some.every(ended)) timer = setTimeout(show, AGAIN_MS);
    pages.replaceChildren(...[
      page > 1 ? turn("Newer", page - 1) : null,
      first + some.length < total ? turn("Older", page + 1) : null,
    ].filter((button) => button !== null));
  }
  /** @param {string} name @param {number} to */
  const turn = (name, to) => el("button", { type: "button", click: async () => {
    page = to;
    await show();
    root.querySelector("h1")?.focus();
  } }, name);

  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(again, TYPING_MS);
  });
  filter.addEventListener("change", again);
  function again() {
    page = 1;
    show();
  }
  show();
  return () => {
    newest = -1; // an answer that comes now is not shown
    clearTimeout(timer);
  };
}
