/** Looks at a job again and again until it has ended, more seldom the longer nothing changes. */

import { getJson } from "./api.js";

const FIRST_MS = 400;
const SLOWER = 1.4; // times, after each look that found nothing new
const MOST_MS = 5_000;
const HIDDEN_MS = 10_000; // while the tab is in the background
const GONE_MS = 20_000; // most, while the server does not answer

/**
 * @param {string} id
 * @param {(job: any) => void} onJob called at first, and when something changed
 * @param {(error: any, seconds: number) => void} onTrouble what failed, and in how many s it is tried again; 0 = it is not
 * @returns {() => void} stops looking
 */
export function follow(id, onJob, onTrouble) {
  const aborter = new AbortController();
  /** @type {number | undefined} */
  let timer;
  let wait = FIRST_MS;
  let failures = 0;
  let known = "";

  async function look() {
    try {
      const job = await getJson(`/v1/jobs/${encodeURIComponent(id)}`, { signal: aborter.signal });
      failures = 0;
      const found = JSON.stringify(job);
      wait = found === known ? Math.min(wait * SLOWER, MOST_MS) : FIRST_MS;
      if (found !== known) {
        known = found;
        onJob(job);
      }
      if (ended(job)) return;
    } catch (/** @type {any} */ error) {
      if (aborter.signal.aborted) return;
      const passing = error.status === 0 || error.status === 429 || error.status >= 500;
      failures += 1;
      wait = passing ? Math.min(1000 * 2 ** failures, GONE_MS) : 0;
      onTrouble(error, wait / 1000);
      if (!passing) return;
    }
    timer = setTimeout(look, document.hidden ? Math.max(wait, HIDDEN_MS) : wait);
  }

  const onShown = () => {
    if (document.hidden || timer === undefined) return;
    clearTimeout(timer);
    timer = setTimeout(look, 0);
  };
  document.addEventListener("visibilitychange", onShown);
  look();
  return () => {
    aborter.abort();
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", onShown);
  };
}

/** @param {any} job */
export const ended = (job) => job.state === "done" || job.state === "failed";
