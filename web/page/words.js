/** What the page says: numbers, times and names for reading, and what each state means. Pure. */

/**
 * What a verdict means, and what to do where there is none. `icon` is a key of `icons.js`.
 * @type {Record<string, {word: string, icon: string, means: string, todo: string[]}>}
 */
export const VERDICTS = {
  FAKE: {
    word: "FAKE",
    icon: "alert",
    means: "Signs of manipulation were found.",
    todo: ["Look at the moments below and at the original source before you draw a conclusion."],
  },
  REAL: {
    word: "REAL",
    icon: "check",
    means: "No sign of a manipulation that this model knows.",
    todo: ["This does not show that the picture is what it claims to be, nor that it is not made in another way."],
  },
  UNCERTAIN: {
    word: "UNCERTAIN",
    icon: "question",
    means: "The model cannot decide.",
    todo: ["A copy in better quality, or a longer part of the clip, may help. Do not read this as half fake."],
  },
  NO_FACE: {
    word: "NO FACE",
    icon: "noface",
    means: "No face was found, so nothing was judged.",
    todo: [
      "Only faces are looked at. This says nothing about whether the file is fake.",
      "Send a part in which a face is seen from the front, in focus, and for a second or longer.",
      "If the face is very small, cut the picture or clip closer to it.",
    ],
  },
  ERROR: {
    word: "NOT READ",
    icon: "broken",
    means: "The file could not be read, so nothing was judged.",
    todo: [
      "This says nothing about whether it is fake.",
      "Get the file once more from where it came from: it may have been cut off on the way.",
      "See whether a video player opens it. If so, send the original file instead of a forwarded copy, or save it as MP4.",
      "A web page or a document saved under the name of a clip cannot be judged.",
    ],
  },
};

/** The steps of a job, in order. */
export const STEPS = [
  ["queued", "Waiting for its turn"],
  ["reading", "Reading the file and looking for faces"],
  ["scoring", "Scoring the faces"],
  ["writing", "Writing the report"],
];

/** What no verdict tells. */
export const NOT_TOLD = [
  "A verdict is evidence, not proof. Do not accuse anybody on the ground of it alone.",
  "REAL means: no sign of a manipulation that this model knows. New methods, and people who are wholly synthetic, can pass.",
  "Only faces were looked at: not voices, lips against speech, captions, or whether the clip shows what is claimed.",
  "A copy that was forwarded, cut or filmed from a screen has lost traces. Judge the earliest copy that you can get.",
];

/**
 * What a job is at, for one line.
 * @param {any} job
 */
export function stateWords(job) {
  if (job.state === "queued") return job.place ? `waiting, place ${job.place} in the queue` : "waiting";
  if (job.state === "failed") return "failed";
  if (job.state === "done") return VERDICTS[job.verdict].word;
  const step = STEPS.find(([name]) => name === job.stage);
  return step ? step[1].toLowerCase() : "starting";
}

/**
 * What went wrong with a request, and what to do.
 * @param {any} error
 */
export function errorWords(error) {
  const told = error.message ? ` (the server says: ${plain(error.message)})` : "";
  switch (error.status) {
    case 0:
      return "The server cannot be reached. Check the connection, or whether it is still running.";
    case 401:
      return "The server wants a key. Load the page again to enter one.";
    case 403:
      return `The server refused this request${told}.`;
    case 404:
      return "There is no such check. It may have been deleted, or it has expired.";
    case 413:
      return `The file is too big for this server${told}. Cut out the part that matters, without encoding it anew.`;
    case 429:
      return "The queue of the server is full.";
    case 507:
      return `The disk of the server is full${told}. Whoever runs it must make room; then try again.`;
    default:
      return `The server could not do this${told}. If it happens again, tell whoever runs it: code ${error.status}.`;
  }
}

/**
 * A score for reading.
 * @param {number | null | undefined} p 0..1
 */
export function score(p) {
  return p === null || p === undefined ? "none" : p.toFixed(2);
}

/**
 * A time in a clip for reading: 0:03, 1:02:03.
 * @param {number} seconds
 * @param {number} [decimals]
 */
export function clock(seconds, decimals = 0) {
  const unit = 10 ** decimals;
  const whole = Math.floor(seconds * unit + 1e-6) / unit;
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const rest = (whole % 60).toFixed(decimals).padStart(decimals ? 3 + decimals : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

/**
 * A size for reading.
 * @param {number} count bytes
 */
export function size(count) {
  for (const [unit, bytes] of /** @type {[string, number][]} */ ([["GB", 1e9], ["MB", 1e6], ["kB", 1e3]])) {
    if (count >= bytes) return `${(count / bytes).toFixed(count >= 100 * bytes ? 0 : 1).replace(".0", "")} ${unit}`;
  }
  return `${count} byte${count === 1 ? "" : "s"}`;
}

/**
 * A date as the reader's country writes it.
 * @param {string | null} iso
 */
export function date(iso) {
  return iso ? new Date(iso).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
}

/**
 * A text from a stranger: control characters, and those that turn the direction of what follows, are shown as �.
 * @param {string} text
 */
export function plain(text) {
  // eslint-disable-next-line no-control-regex
  return String(text).replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "\ufffd");
}

/**
 * A text with a capital and an end.
 * @param {string} text
 * @param {string} [end]
 */
export function sentence(text, end = ".") {
  const told = plain(text).trim();
  return told && told[0].toUpperCase() + told.slice(1) + (/[.!?]$/.test(told) ? "" : end);
}

/**
 * A person for reading; they are counted from 1.
 * @param {number} track
 */
export function person(track) {
  return `person ${track + 1}`;
}

/**
 * In which zone a score lies.
 * @param {number} p 0..1
 * @param {[number, number]} band below it REAL, from its end on FAKE
 */
export function zone(p, band) {
  return p >= band[1] ? "FAKE" : p < band[0] ? "REAL" : "UNCERTAIN";
}

/** @param {number} count @param {string} what */
export function counted(count, what) {
  return `${count.toLocaleString()} ${what}${count === 1 ? "" : "s"}`;
}
