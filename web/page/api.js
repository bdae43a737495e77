/** Requests to the server. */

import { askForKey, hasKey, keyHeaders, theKey } from "./key.js";

/** A request that failed: `status` is 0 where no server answered. */
export class ApiError extends Error {
  /** @param {number} status @param {string} message @param {number} [retryAfter] s */
  constructor(status, message, retryAfter) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/**
 * A request; asks for a key where the server wants one.
 * @param {string} path
 * @param {RequestInit} [options]
 * @returns {Promise<Response>}
 */
export async function request(path, options = {}) {
  const used = theKey();
  let response;
  try {
    response = await fetch(path, { ...options, headers: { ...options.headers, ...keyHeaders() } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new ApiError(0, "");
  }
  if (response.status === 401 && (await askForKey(used))) return request(path, options);
  if (!response.ok) throw await errorOf(response);
  return response;
}

/** @param {Response} response */
async function errorOf(response) {
  return asError(response.status, await response.text(), response.headers.get("Retry-After"));
}

/**
 * The server's own words, where it has any.
 * @param {number} status
 * @param {string} body
 * @param {string | null} retryAfter
 */
export function asError(status, body, retryAfter) {
  let message = "";
  try {
    message = JSON.parse(body).error.message ?? "";
  } catch {
    // A proxy in between answers in its own form; the status is all that is known.
  }
  return new ApiError(status, message, Number(retryAfter) || undefined);
}

/** @param {string} path @param {RequestInit} [options] @returns {Promise<any>} */
export const getJson = async (path, options) => (await request(path, options)).json();

/** @param {string} path */
export const getText = async (path) => (await request(path)).text();

/** @param {string} path */
export const remove = (path) => request(path, { method: "DELETE" });

/**
 * Asks once and keeps the answer; a failure is not kept.
 * @param {string} path
 * @returns {() => Promise<any>}
 */
function once(path) {
  /** @type {Promise<any> | null} */
  let answer = null;
  return () => {
    answer ??= getJson(path).catch((error) => {
      answer = null;
      throw error;
    });
    return answer;
  };
}

/** What the server takes. */
export const limits = once("/v1/limits");

/** Which model judges. */
export const model = once("/v1/model");

/**
 * Where an <img> or <video> finds a file: a browser sends no key with these, so with one the file is fetched first.
 * @param {string} path
 * @returns {Promise<string>}
 */
export async function source(path) {
  return hasKey() ? URL.createObjectURL(await (await request(path)).blob()) : path;
}

/** @type {Record<string, string>} */
const ENDINGS = { "text/html": ".html", "application/json": ".json", "video/mp4": ".mp4", "image/jpeg": ".jpg" };

/**
 * Saves a file of the server.
 * @param {string} path
 * @param {string} stem of its name; the ending follows from what the server says it is
 */
export async function save(path, stem) {
  const blob = await (await request(path)).blob();
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = stem + (ENDINGS[blob.type.split(";")[0]] ?? "");
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
