/** The page of one job: its progress, then the answer with all that it rests on. */

import { getJson, getText, model } from "./api.js";
import { factTable, measured, notTold } from "./about.js";
import { el } from "./dom.js";
import { faces } from "./faces.js";
import { actions } from "./files.js";
import { people } from "./people.js";
import { clearest, player } from "./player.js";
import { follow } from "./poll.js";
import { progressCard } from "./progress.js";
import { timeline } from "./timeline.js";
import { failedCard, verdictCard } from "./verdict.js";
import { counted, date, errorWords, plain, size } from "./words.js";

/**
 * How sentences on the error for the other kind of file begin.
 * @type {Record<string, string>}
 */
const OTHER_KIND = { video: "Stills: ", image: "Clips: " };

/** @param {HTMLElement} root @param {RegExpMatchArray} match */
export function job(root, match) {
  const title = el("h1", { tabindex: "-1" }, "…");
  const facts = el("p", { class: "soft" });
  const body = el("div");
  root.append(el("p", { class: "back" }, el("a", { href: "#/jobs" }, "‹ Past checks")), title, facts, body);
  const progress = progressCard();
  /** @param {any} found */
  function show(found) {
    title.replaceChildren(el("bdi", {}, plain(found.name)));
    document.title = `${plain(found.name)}: ${found.verdict ?? found.state} – dfpipe`;
    facts.textContent = [size(found.bytes), `sent ${date(found.created)}`, found.expires && `kept until ${date(found.expires)}`,
      found.reused && "the same bytes were judged before; this is that result"].filter(Boolean).join(" · ");
    if (found.state === "done") return showResult(body, found);
    if (found.state === "failed") return body.replaceChildren(failedCard(found), actions(found, false));
    if (!progress.element.isConnected) body.replaceChildren(progress.element, actions(found, false));
    progress.show(found);
  }
  return follow(match[1], show, (error, seconds) => {
    if (progress.element.isConnected && seconds) return progress.trouble(error, seconds);
    if (title.textContent === "…") title.textContent = error.status === 404 ? "Not found" : "Not to be had now";
    body.replaceChildren(el("p", { class: "warn", role: "alert" }, errorWords(error) + (seconds ? " This page keeps trying." : "")));
  });
}

/** @param {HTMLElement} body @param {any} found */
async function showResult(body, found) {
  try {
    const [report, page, card] = await Promise.all([getJson(found.links.report_json), getText(found.links.report), model()]);
    body.replaceChildren(...sections(found, report, page, card).filter((part) => part !== null));
  } catch (error) {
    body.replaceChildren(el("p", { class: "warn", role: "alert" }, errorWords(error)), actions(found, false));
  }
}

/** @param {any} found the job @param {any} report @param {string} page report.html @param {any} card of the model */
function sections(found, report, page, card) {
  const clip = report.media?.kind === "video";
  /** @type {ReturnType<typeof timeline>} */
  let chart = null;
  const shown = report.media ? player(found, report, (time) => chart?.at(time)) : null;
  const jump = (/** @type {number} */ time) => {
    shown?.jump(time);
    shown?.element.scrollIntoView({ block: "nearest" });
  };
  chart = clip ? timeline(report, jump) : null;
  if (clip && report.scores.length) shown?.jump(clearest(report).time_s);
  return [
    verdictCard(report),
    actions(found, true),
    shown?.element ?? null,
    chart?.element ?? null,
    faces(page, report, clip ? jump : null),
    people(report, clip ? jump : null),
    el("section", { "aria-labelledby": "not-told" }, el("h2", { id: "not-told" }, "What this does not tell you"), notTold(card)),
    el("section", { "aria-labelledby": "error-title" }, el("h2", { id: "error-title" }, "How often the model was wrong"),
      measured(card, OTHER_KIND[report.media?.kind])),
    el("section", { "aria-labelledby": "file-title" }, el("h2", { id: "file-title" }, "The file and how it was judged"), factTable(factsOf(found, report))),
  ];
}

/** @param {any} found @param {any} report @returns {[string, string][]} */
function factsOf(found, report) {
  const media = report.media;
  /** @type {[string, string | null][]} */
  const facts = [
    ["name", found.name],
    ["picture", media && `${media.width} × ${media.height} px, ${size(media.bytes)}`],
    ["clip", media?.kind === "video" ? [media.codec, media.duration_s && `${media.duration_s.toFixed(2)} s`, media.fps && `${Number(media.fps.toPrecision(4))} frames/s`].filter(Boolean).join(", ") : null],
    ["frames", media && `${counted(report.frames.wanted, "frame")} looked for, ${report.frames.decoded} decoded, ${report.frames.with_face} with a face`],
    ["SHA-256", report.sha256 || null],
    ["model", `${report.model.name}, SHA-256 ${report.model.sha256}`],
    ["judged", `${date(report.judged_at)}, dfpipe ${report.dfpipe}, ${report.seconds.toFixed(1)} s`],
  ];
  return /** @type {[string, string][]} */ (facts.filter(([, value]) => value));
}
