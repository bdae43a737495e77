/** The clip or picture with boxes, person numbers and scores drawn over it. */

import { source } from "./api.js";
import { el, say } from "./dom.js";
import { icon } from "./icons.js";
import { byTrack, fitted, marksAt } from "./marks.js";
import { counted, person, plain, score } from "./words.js";

const FONT = "600 14px system-ui, sans-serif";
const PAD = 5; // px beside a label's text
const LABEL = 22; // px, height of a label
const LEAST_PX = 420; // width to which every picture may be enlarged
const MOST_ENLARGED = 2; // times, above that
// As in the overlay that dfpipe writes: pipeline/colours.py has the table, a test compares.
const COLOURS = { FAKE: "#B3400B", REAL: "#005F94", UNCERTAIN: "#6B5900" };

/**
 * @param {any} job
 * @param {any} report report.json
 * @param {(time: number) => void} onTime called with the time that is shown, in s
 */
export function player(job, report, onTime) {
  const still = report.media.kind === "image";
  // Until the picture is there its place is kept, so that nothing below jumps.
  const hold = el("div", { class: "hold" });
  hold.style.aspectRatio = `${report.media.width} / ${report.media.height}`;
  hold.style.maxWidth = widest(report.media.width);
  const stage = el("div", { class: "stage" }, hold);
  const controls = el("div", { class: "actions controls" });
  const told = el("p", { class: "soft", role: "status" }, "loading …");
  const element = el("section", { class: "player", "aria-labelledby": "player-title" },
    el("h2", { id: "player-title" }, still ? "The picture" : "The clip"), stage, controls, told);
  const boxes = boxLayer(report);
  /** @type {HTMLVideoElement | null} */
  let video = null;
  /** @type {number | null} */
  let wanted = null;
  const half = report.media.fps ? 0.5 / report.media.fps : 0.005; // into the frame: its exact time may show the one before

  /** @param {number} time s */
  function jump(time) {
    wanted = time;
    if (!video?.readyState) return;
    video.pause();
    video.currentTime = time + half;
  }

  /** Makes the first of some sources that the browser can show. @param {any[]} tries */
  async function show(tries) {
    for (const make of tries) {
      const shown = await make();
      if (!shown) continue;
      stage.replaceChildren(shown, boxes.canvas);
      return ready(shown);
    }
    stage.remove();
    controls.remove();
    told.className = "warn";
    told.replaceChildren(...unplayable(job, report));
  }

  /** @param {any} shown */
  function ready(shown) {
    say(told, caption(report, shown));
    shown.style.maxWidth = widest(shown.videoWidth || shown.naturalWidth);
    const marked = shown.dataset.drawn === undefined && (still || shown instanceof HTMLVideoElement);
    /** @type {number | null} the time of the frame that is shown, s; null in a still */
    let at = still ? null : 0;
    const draw = () => marked && boxes.draw(shown, at);
    new ResizeObserver(draw).observe(shown);
    const choice = el("input", { type: "checkbox", id: "boxes", checked: true, change: () => {
      boxes.canvas.hidden = !choice.checked;
    } });
    if (marked && report.scores.length) controls.append(el("span", { class: "check" }, choice, el("label", { for: "boxes" }, "show boxes")));
    if (shown instanceof HTMLVideoElement) {
      video = shown;
      onFrames(shown, (time) => {
        at = time;
        draw();
        onTime(time);
      });
      controls.append(...steps(report, shown, jump));
      if (wanted !== null) jump(wanted);
    }
    if (document.fullscreenEnabled) {
      controls.append(el("button", { type: "button", click: () => stage.requestFullscreen() }, icon("full"), "Full screen"));
    }
    draw();
  }

  const clip = [() => loadVideo(job.links.media), () => loadImage(job.links.media)];
  const drawn = job.links.overlay ? [() => (still ? loadImage : loadVideo)(job.links.overlay, true)] : [];
  show([...(still ? clip.slice(1) : clip), ...drawn]);
  return { element, jump };
}

/**
 * How wide a picture may be shown: small ones are not blown up until they are all blocks.
 * @param {number} width px
 */
const widest = (width) => `${Math.max(LEAST_PX, MOST_ENLARGED * width)}px`;

/** @param {string} path @param {boolean} [drawn] whether boxes are in the picture already */
async function loadVideo(path, drawn = false) {
  const video = el("video", { controls: true, playsinline: true, muted: true, preload: "auto", controlslist: "nofullscreen",
    "aria-label": "The clip; the times below jump to its moments" });
  if (drawn) video.dataset.drawn = "";
  // A browser that knows the sound but not the picture loads such a file without an error.
  return (await loaded(video, path, "loadeddata")) && video.videoWidth > 0 ? video : null;
}

/** @param {string} path @param {boolean} [drawn] */
async function loadImage(path, drawn = false) {
  const image = el("img", { alt: "The picture that was judged" });
  if (drawn) image.dataset.drawn = "";
  return (await loaded(image, path, "load")) ? image : null;
}

/** @param {any} element @param {string} path @param {string} event @returns {Promise<boolean>} */
async function loaded(element, path, event) {
  const ended = new Promise((resolve) => {
    element.addEventListener(event, () => resolve(true), { once: true });
    element.addEventListener("error", () => resolve(false), { once: true });
  });
  try {
    element.src = await source(path);
  } catch {
    return false;
  }
  return ended;
}

/** Calls back for each frame that is shown. @param {any} video @param {(time: number) => void} call */
function onFrames(video, call) {
  if (!video.requestVideoFrameCallback) {
    video.addEventListener("seeked", () => call(video.currentTime));
    video.addEventListener("timeupdate", () => call(video.currentTime));
    return;
  }
  const next = (/** @type {number} */ _, /** @type {{mediaTime: number}} */ frame) => {
    call(frame.mediaTime);
    video.requestVideoFrameCallback(next);
  };
  video.requestVideoFrameCallback(next);
  call(video.currentTime);
}

/** Buttons from one looked-at frame to the next. @param {any} report @param {HTMLVideoElement} video @param {(time: number) => void} jump */
function steps(report, video, jump) {
  const looks = looksOf(report);
  const near = 0.02; // s, that a jump may end beside
  const back = () => jump(looks.findLast((time) => time < video.currentTime - near - 0.02) ?? looks[0]);
  const on = () => jump(looks.find((time) => time > video.currentTime + near) ?? looks[looks.length - 1]);
  if (looks.length < 2) return [];
  return [
    el("button", { type: "button", click: back, "aria-label": "Back to the face before" }, "‹ face before"),
    el("button", { type: "button", click: on, "aria-label": "On to the next face" }, "next face ›"),
  ];
}

/** @param {any} report @returns {number[]} */
const looksOf = (report) => [...new Set(/** @type {number[]} */ (report.scores.map((/** @type {any} */ s) => s.time_s)))].sort((a, b) => a - b);

/** @param {any} report @param {HTMLElement} shown */
function caption(report, shown) {
  if (shown.dataset.drawn !== undefined) return "Your browser cannot show the file itself; this is the copy with boxes drawn in.";
  if (report.media.kind === "video" && shown instanceof HTMLImageElement) {
    return "Your browser shows this file without a way to jump in it; the times below name the moments.";
  }
  if (!report.scores.length) return "No face was found in it.";
  const people = counted(report.people.length, "person").replace("persons", "people");
  return report.media.kind === "image" ? `${people} in the picture.`
    : `${people}; boxes between the ${looksOf(report).length} frames that were looked at are interpolated.`;
}

/** @param {any} job @param {any} report */
function unplayable(job, report) {
  const kind = report.media.codec ? ` (${plain(report.media.codec)})` : "";
  return [
    el("strong", {}, `Your browser cannot show this file${kind}. `),
    "The verdict stands all the same: it was judged on the server. ",
    job.links.overlay ? "The copy with boxes drawn in is to be had above; a video player on your computer will open it."
      : "The report above shows the faces. To see boxes in the clip, send it again with “also make a copy” ticked.",
  ];
}

/** A canvas that lies over the picture. @param {any} report */
function boxLayer(report) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const tracks = byTrack(report.scores);
  const looks = looksOf(report);
  const verdicts = new Map(report.people.map((/** @type {any} */ one) => [one.track, one.verdict]));
  /** @param {any} shown the <video> or <img> @param {number | null} time s; null in a still */
  function draw(shown, time) {
    const [width, height] = [shown.clientWidth, shown.clientHeight];
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    canvas.style.left = `${shown.offsetLeft}px`;
    canvas.style.top = `${shown.offsetTop}px`;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = FONT;
    // The browser turns the picture as the file says, and so did dfpipe: both are upright.
    const at = fitted(width, height, shown.videoWidth || shown.naturalWidth, shown.videoHeight || shown.naturalHeight);
    const marks = time === null ? report.scores.filter((/** @type {any} */ s) => s.box) : marksAt(tracks, looks, time);
    /** @type {Field[]} */
    const taken = [];
    for (const mark of marks) drawMark(pen, mark, at, report.media, verdicts.get(mark.track) ?? "UNCERTAIN", taken);
    canvas.dataset.marks = marks.map((/** @type {any} */ m) => `${m.track + 1}:${score(m.p_fake)}`).join(" "); // what is drawn, for tests
  }
  return { canvas, draw };
}

/** @typedef {{left: number, top: number, wide: number}} Field where a label lies, px */

/** @param {any} pen @param {any} mark @param {any} at @param {any} media @param {keyof typeof COLOURS} verdict @param {Field[]} taken */
function drawMark(pen, mark, at, media, verdict, taken) {
  const [x1, y1, x2, y2] = mark.box.map((/** @type {number} */ side, /** @type {number} */ i) =>
    i % 2 ? at.top + (side * at.height) / media.height : at.left + (side * at.width) / media.width);
  const thick = verdict === "FAKE" ? 4 : 2; // so that it does not rest on colour alone
  for (const [colour, wide] of /** @type {[string, number][]} */ ([["#000", thick + 2], [COLOURS[verdict], thick]])) {
    pen.strokeStyle = colour; // a dark rim shows on any background
    pen.lineWidth = wide;
    pen.strokeRect(x1, y1, x2 - x1, y2 - y1);
  }
  const words = x2 - x1 < 70 ? `${mark.track + 1}: ${score(mark.p_fake)}` : `${person(mark.track)}  ${score(mark.p_fake)}`;
  const wide = pen.measureText(words).width + 2 * PAD;
  const left = Math.min(Math.max(x1 - thick / 2, at.left), at.left + at.width - wide);
  const tops = [y1 - LABEL - thick / 2, y2 + thick / 2, y1 - 2 * LABEL - thick, y1];
  const free = (/** @type {number} */ top) => top >= at.top && taken.every((other) =>
    Math.abs(other.top - top) >= LABEL || other.left >= left + wide || left >= other.left + other.wide);
  const top = tops.find(free) ?? tops[1];
  taken.push({ left, top, wide });
  pen.fillStyle = COLOURS[verdict];
  pen.fillRect(left, top, wide, LABEL);
  pen.fillStyle = "#fff";
  pen.fillText(words, left + PAD, top + 16);
}

/** @param {any} report the clearest moment, for the beginning */
export function clearest(report) {
  const [first, ...rest] = report.scores;
  const real = report.verdict === "REAL";
  return rest.reduce((/** @type {any} */ best, /** @type {any} */ s) => ((real ? s.p_fake < best.p_fake : s.p_fake > best.p_fake) ? s : best), first);
}
