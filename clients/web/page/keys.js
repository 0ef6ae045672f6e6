/** The key of this tab, where the server asks for one. */

import { RequestRefused, ServerUnavailable, ServerUnreachable, listModels } from "../saccade.js";
import { element } from "./panel.js";

const PLACE = "saccade-key";
const RETRY_MS = 1000;

/** Return what the SDK needs to be let in. @returns {{key?: string}} */
export function access() {
  const key = sessionStorage.getItem(PLACE);
  return key ? { key } : {};
}

/**
 * Return the server's models; asks for a key where one is needed, and waits for a server
 * that loads.
 *
 * @param {URL} server @param {(text: string) => void} tell
 * @returns {Promise<any[]>}
 */
export async function enter(server, tell) {
  for (;;) {
    try {
      const models = await listModels(server, access());
      tell("");
      return models;
    } catch (error) {
      if (error instanceof RequestRefused && error.status === 401) {
        if (access().key) tell("The server does not know this key.");
        await ask();
      } else if (error instanceof ServerUnavailable || error instanceof ServerUnreachable) {
        tell(`${error.message}; trying again`);
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      } else throw error;
    }
  }
}

/** @returns {Promise<void>} */
function ask() {
  const dialog = /** @type {HTMLDialogElement} */ (element("ask-key"));
  const input = /** @type {HTMLInputElement} */ (element("key"));
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => {
      if (input.value) sessionStorage.setItem(PLACE, input.value);
      input.value = "";
      resolve();
    };
  });
}
