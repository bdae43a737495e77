/** The API key: asked for once, kept until the tab is closed. */

import { byId } from "./dom.js";

const STORE = "dfpipe-key";
/** @type {Promise<boolean> | null} */
let asking = null;

export const hasKey = () => sessionStorage.getItem(STORE) !== null;
export const theKey = () => sessionStorage.getItem(STORE);

/** @returns {Record<string, string>} */
export function keyHeaders() {
  const key = theKey();
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/**
 * Asks for a key, once for all requests that want one.
 * @param {string | null} refused the key that the server did not accept, null if none was sent
 * @returns {Promise<boolean>} whether there is another key to try
 */
export function askForKey(refused) {
  if (theKey() !== refused) return Promise.resolve(true); // entered in the meantime
  asking ??= ask(refused !== null).finally(() => (asking = null));
  return asking;
}

/** @param {boolean} wrong @returns {Promise<boolean>} */
function ask(wrong) {
  const dialog = byId("key-dialog");
  const field = byId("key");
  byId("key-wrong").hidden = !wrong;
  field.value = "";
  dialog.showModal();
  return new Promise((resolve) => {
    byId("key-form").onsubmit = (/** @type {Event} */ event) => {
      event.preventDefault();
      sessionStorage.setItem(STORE, field.value.trim());
      dialog.close("entered");
    };
    byId("key-cancel").onclick = () => dialog.close("");
    dialog.onclose = () => resolve(dialog.returnValue === "entered");
    dialog.returnValue = "";
  });
}
