/** Sends one file. XMLHttpRequest, because fetch does not tell how much of a body is sent. */

import { ApiError, asError, getJson } from "./api.js";
import { askForKey, keyHeaders, theKey } from "./key.js";

const WAIT_S = 5; // before another try, where the server names no time
const MOST_BREAKS = 3; // connections that broke while the server was there, before giving up

/**
 * @typedef {object} Hooks
 * @property {(share: number) => void} onProgress 0..1 of the body that is sent
 * @property {(seconds: number) => void} onWait the queue is full; it is tried again in so many s
 */

/**
 * Sends a file, waiting while the queue of the server is full.
 * @param {File} file
 * @param {boolean} overlay whether a copy with boxes is wanted
 * @param {Hooks} hooks
 * @param {AbortSignal} signal
 * @returns {Promise<any>} the job
 * @throws {ApiError} why the server did not take it
 * @throws {DOMException} AbortError: cancelled
 */
export async function upload(file, overlay, hooks, signal) {
  for (let breaks = 0; ; ) {
    const used = theKey();
    try {
      return await send(file, overlay, hooks.onProgress, signal);
    } catch (/** @type {any} */ error) {
      if (error.status === 401 && (await askForKey(used))) continue;
      if (error.status === 0 && (breaks += 1) <= MOST_BREAKS && (await answers())) {
        await pause(WAIT_S, hooks.onWait, signal);
      } else if (error.status === 429) {
        await pause(error.retryAfter ?? WAIT_S, hooks.onWait, signal);
      } else {
        throw error;
      }
    }
  }
}

/** @param {File} file @param {boolean} overlay @param {(share: number) => void} onProgress @param {AbortSignal} signal */
function send(file, overlay, onProgress, signal) {
  const body = new FormData();
  if (overlay) body.append("overlay", "true");
  body.append("files", file, file.name);
  return new Promise((resolve, reject) => {
    const xhr = new XMLHttpRequest();
    xhr.open("POST", "/v1/jobs");
    for (const [name, value] of Object.entries(keyHeaders())) xhr.setRequestHeader(name, value);
    xhr.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    xhr.onload = () => {
      if (xhr.status === 202) resolve(JSON.parse(xhr.responseText).jobs[0]);
      else reject(asError(xhr.status, xhr.responseText, xhr.getResponseHeader("Retry-After")));
    };
    xhr.onerror = () => reject(new ApiError(0, ""));
    xhr.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    signal.throwIfAborted();
    signal.addEventListener("abort", () => xhr.abort());
    xhr.send(body);
  });
}

/** Whether the server is there: one that refuses an upload early breaks the connection, which looks as if it were gone. */
async function answers() {
  try {
    await getJson("/v1/limits");
    return true;
  } catch {
    return false;
  }
}

/** @param {number} seconds @param {(seconds: number) => void} onWait @param {AbortSignal} signal */
async function pause(seconds, onWait, signal) {
  for (let left = Math.ceil(seconds); left > 0; left--) {
    onWait(left);
    await new Promise((resolve) => setTimeout(resolve, 1000));
    signal.throwIfAborted();
  }
}
