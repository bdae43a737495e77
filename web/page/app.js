/** Which page is shown: the part of the address after # says it, so that links and the back button work. */

import { about } from "./about.js";
import { byId } from "./dom.js";
import { home } from "./home.js";
import { job } from "./job.js";
import { jobs } from "./jobs.js";

/**
 * Address, name in the navigation, title, and what fills the page; it may return what to call when the page is left.
 * @type {[RegExp, string, string, (root: HTMLElement, match: RegExpMatchArray) => any][]}
 */
const PAGES = [
  [/^#?\/?$/, "home", "Check a file", home],
  [/^#\/jobs(?:\?.*)?$/, "jobs", "Past checks", jobs],
  [/^#\/job\/([\w-]+)$/, "job", "A check", job],
  [/^#\/about$/, "about", "The model", about],
];

const main = byId("main");
/** @type {any} */
let leave = null;

/** @param {boolean} [first] at the first page the focus stays where the browser puts it */
function show(first = false) {
  const [address, name, title, fill] = PAGES.find(([pattern]) => pattern.test(location.hash)) ?? PAGES[0];
  if (typeof leave === "function") leave();
  main.replaceChildren();
  document.title = `${title} – dfpipe`;
  for (const link of document.querySelectorAll("[data-page]")) {
    if (link.getAttribute("data-page") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave = fill(main, /** @type {any} */ (location.hash.match(address) ?? [""]));
  if (first) return;
  scrollTo(0, 0);
  main.querySelector("h1")?.focus({ preventScroll: true });
}

byId("skip").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault(); // the address says which page is shown, so the link must not change it
  main.focus();
});
addEventListener("hashchange", () => show());
show(true);
